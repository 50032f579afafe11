"""Drift: whatever differs and is not declared forbids a comparison, be it in the options or in the logs."""

from __future__ import annotations

import planted_runs
import pytest
from conftest import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.errors import UsageError
from thunder.runs.compare import drift_report, run_facts
from thunder.runs.compare.run_facts import ObservedTraining, RunFacts
from thunder.runs.records import option_names, run_record

NOTE = REPOSITORY / "tests" / "fixtures" / "note000"
BASE = {"lr": 3e-4, "patience": 10, "mode": "baseline", "seed": 1, "updates": 100, "warmup": 0}


def make(name="a", done=None, identity=None, environment=None, **options):
    return RunFacts(name, BASE | options, identity, environment or {}, ObservedTraining(**(done or {})))


def names(found, *kinds):
    return [finding.name for finding in found.findings if finding.kind in kinds]


def test_the_published_pair_cannot_be_compared():
    found = drift_report.compare_runs(
        run_facts.read_run_facts(NOTE / "anchor"), run_facts.read_run_facts(NOTE / "safe")
    )
    assert found.verdict == "not_comparable"
    assert {"lr", "patience", "use_ttt"} <= {finding.name for finding in found.factors}
    assert "lr (0.0003 vs 0.0001)" in found.sentence and "cannot attribute" in found.sentence
    assert "patience (10, effective 8 vs 8)" in found.sentence, "best at 38, stopped at 46: that is 8, not 10"
    assert "patience, logged" in names(found, "conflict")
    assert "epochs done" in names(found, "outcome")


def test_the_published_pair_declared_in_full():
    allow = ["lr", "patience", "use_ttt", "mode"]
    found = drift_report.compare_runs(
        run_facts.read_run_facts(NOTE / "anchor"), run_facts.read_run_facts(NOTE / "safe"), allow
    )
    assert found.verdict == "comparable_with_warnings" and "as declared" in found.sentence
    less = drift_report.compare_runs(
        run_facts.read_run_facts(NOTE / "anchor"), run_facts.read_run_facts(NOTE / "safe"), allow[:-1]
    )
    assert [finding.name for finding in less.factors] == ["mode"]


def test_the_same_configuration_twice(tmp_path):
    a, b = (run_facts.read_run_facts(planted_runs.recognizer_run(tmp_path, name)) for name in "ab")
    found = drift_report.compare_runs(a, b)
    assert (found.verdict, found.findings) == ("comparable", ())
    assert found.sentence == "a and b do not differ"


def test_a_limit_of_epochs_is_no_length_of_training():
    """Own runs refuse more than `max_epochs`; other programs' `epochs` and `max_epochs` say how long they train."""
    own = [
        option_names.with_canonical_names({"steps_per_report": 10, name: 10}) for name in ("max_wraps", "max_epochs")
    ]
    assert own == [{"steps_per_report": 10, "max_wraps": 10}] * 2
    others = [option_names.with_canonical_names({name: 10}) for name in ("epochs", "max_epochs")]
    assert others == [{"max_epochs": 10}] * 2
    a, b = make(max_epochs=10), make("b", max_epochs=20)
    assert names(drift_report.compare_runs(a, b), "regime") == ["max_epochs"]


def test_another_seed_has_to_be_declared(tmp_path):
    a, b = (
        run_facts.read_run_facts(planted_runs.recognizer_run(tmp_path, f"run-{seed}", seed=seed)) for seed in (1, 2)
    )
    assert [finding.name for finding in drift_report.compare_runs(a, b).factors] == ["seed"]
    assert drift_report.compare_runs(a, b, ["seed"]).verdict == "comparable"


@pytest.mark.parametrize("name", ["learning_rate", "learning-rate", "lr", " lr"])
def test_an_option_may_be_declared_by_any_of_its_names(name):
    assert drift_report.compare_runs(make(), make("b", lr=1e-4), [name]).verdict == "comparable"


def test_a_misspelt_declaration_is_the_users_mistake():
    with pytest.raises(UsageError, match="Did you mean 'patience'"):
        drift_report.refuse_unknown_factors(["seed", "patiense"], make(), make("b"))
    drift_report.refuse_unknown_factors(["learning-rate", "split"], make(identity={"split": "s"}), make("b"))


@settings(max_examples=40)
@given(st.sampled_from([*BASE, "brand_new_option", "script", "test_rows"]), st.integers(2, 9))
def test_no_single_difference_gets_through(name, value):
    """Also one in an option that nobody has classified."""
    found = drift_report.compare_runs(make(), make("b", **{name: value}))
    assert [finding.name for finding in found.factors] == [name]
    assert drift_report.compare_runs(make(), make("b", **{name: value}), [name]).verdict == "comparable"


@pytest.mark.parametrize("name", ["save_every", "steps_per_report", "features", "adapter_path", "stall_after"])
def test_what_decides_nothing_is_ignored(name):
    assert drift_report.compare_runs(make(**{name: "x"}), make("b", **{name: "y"})).findings == ()


def test_a_whole_number_that_is_written_as_a_fraction():
    assert drift_report.compare_runs(make(lora_scale=20), make("b", lora_scale=20.0)).findings == ()
    assert drift_report.compare_runs(make(flag=1), make("b", flag=True)).factors


# identity


def test_other_data_cannot_be_allowed_by_accident():
    one, other = {"data.test": "a" * 64, "split": "s"}, {"data.test": "b" * 64, "split": "s"}
    found = drift_report.compare_runs(make(identity=one), make("b", identity=other))
    assert [(finding.name, finding.kind) for finding in found.factors] == [("data.test", "identity")]
    assert "aaaaaaaaaaaa vs bbbbbbbbbbbb" in found.sentence


def test_what_only_one_run_records_is_a_difference_and_what_neither_does_a_warning():
    found = drift_report.compare_runs(make(identity={"split": "s"}), make("b", identity={}))
    assert found.verdict == "not_comparable" and "not recorded" in found.sentence
    found = drift_report.compare_runs(make(identity={}), make("b", identity={}))
    assert found.verdict == "comparable_with_warnings" and "neither run records digests" in found.sentence
    assert drift_report.compare_runs(make(), make("b")).verdict == "comparable", "two configurations, not yet run"


def test_split_and_labels_are_known_by_what_they_hold(tmp_path):
    a = planted_runs.recognizer_run(tmp_path, "a")
    b = planted_runs.recognizer_run(tmp_path, "b", rows=8)
    (b / "vocab.json").write_text('{"labels": ["x"]}')
    found = drift_report.compare_runs(run_facts.read_run_facts(a), run_facts.read_run_facts(b))
    assert [finding.name for finding in found.factors] == ["split", "vocab"]


def test_how_a_split_was_come_by_decides_nothing_where_its_ids_are_known():
    same = {"split": "s"}
    assert (
        drift_report.compare_runs(make(identity=same, test_ids=["x"]), make("b", identity=same, test_ids=[])).findings
        == ()
    )
    assert drift_report.compare_runs(make(test_ids=["x"]), make("b", test_ids=[])).factors


def test_the_environment_is_a_warning():
    found = drift_report.compare_runs(make(environment={"chip": "M4"}), make("b", environment={"chip": "M5"}))
    assert found.verdict == "comparable_with_warnings" and "chip (M4 vs M5)" in found.sentence


# by optimizer updates


def test_the_batch_is_counted_over_ranks_and_accumulation(tmp_path):
    """Two ranks with one row each, and one rank that accumulates two: the same updates."""
    made = []
    for name, ranks, pieces, iters, every in (("a", 2, 1, 100, 10), ("b", 1, 2, 200, 20)):
        run = planted_runs.recognizer_run(tmp_path, name, ranks=ranks, batch_size=1, iters=iters,
                                          grad_accumulation_steps=pieces, steps_per_eval=every,
                                          metrics=planted_runs.plain_metrics(80, 3e-4))  # fmt: skip
        planted_runs.write_json(run / "plan.json", {"job": "asr", "batch": {"rows_per_update": 2},
                                                    "length": {"updates": 100}})  # fmt: skip
        results = {"steps": 100, "global_batch_size": ranks}
        planted_runs.write_json(run / "results.json", results)
        made.append(run_facts.read_run_facts(run))
    found = drift_report.compare_runs(*made)
    assert found.factors == () and names(found, "conflict") == [] and names(found, "environment") == ["ranks"]
    assert made[0].options["batch"] == made[1].options["batch"] == 2
    assert made[0].options["updates_per_eval"] == made[1].options["updates_per_eval"] == 10


# what the logs say


def rates(value, steps=range(10, 101, 10)):
    return dict.fromkeys(steps, value)


def test_a_rate_that_was_not_the_one_asked_for():
    found = drift_report.compare_runs(make(done={"rates": rates(3e-4)}), make("b", done={"rates": rates(1e-4)}))
    assert found.verdict == "not_comparable" and [finding.name for finding in found.factors] == ["lr, logged"]
    assert names(found, "conflict") == ["lr, logged"], "and b's log is not what b was asked for"
    high = drift_report.compare_runs(make(done={"rates": rates(4e-4)}), make("b", done={"rates": rates(4e-4)}))
    assert high.verdict == "comparable_with_warnings" and "0.0003 asked for" in high.sentence


def test_two_rates_were_asked_for_and_one_was_used():
    """The treatment was declared, and never applied."""
    a, b = make(done={"rates": rates(3e-4)}), make("b", lr=1e-3, done={"rates": rates(3e-4)})
    found = drift_report.compare_runs(a, b, ["lr"])
    assert found.verdict == "comparable_with_warnings" and "one and the same" in found.sentence


def test_a_warmup_that_was_never_passed_is_no_conflict():
    early = {5: 1e-5, 10: 2e-5}
    found = drift_report.compare_runs(*(make(name, warmup=200, updates=1000, done={"rates": early}) for name in "ab"))
    assert found.findings == ()


def test_a_cosine_is_no_conflict():
    import math

    curve = {step: 3e-4 * (0.1 + 0.9 * (1 + math.cos(math.pi * step / 100)) / 2) for step in range(0, 101, 7)}
    assert drift_report.compare_runs(*(make(name, done={"rates": curve}) for name in "ab")).findings == ()


@pytest.mark.parametrize("waited, conflict", [(10, False), (8, True)])
def test_patience_as_it_worked(waited, conflict):
    done = {"stopped_early": True, "waited": waited}
    found = drift_report.compare_runs(make(done=done), make("b", done=done))
    assert bool(names(found, "conflict")) == conflict
    other = drift_report.compare_runs(make(done=done), make("b"))
    assert ("patience" in [finding.name for finding in other.factors]) == conflict


def test_waiting_is_counted_in_validations(tmp_path):
    metrics = [{"step": step, "valid_loss": loss} for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0), (4, 2.5), (4, 1.5))]
    run = planted_runs.recognizer_run(tmp_path, metrics=metrics, patience=2)
    assert run_facts.read_run_facts(run).done.waited == 2
    planted_runs.write_json(run / "results.json", {"steps": 4, "stopped_early": "no better validation loss"})
    assert drift_report.compare_runs(run_facts.read_run_facts(run), run_facts.read_run_facts(run)).findings == ()


def test_a_run_that_was_forced_to_go_on_otherwise(tmp_path):
    a, b = (planted_runs.recognizer_run(tmp_path, name) for name in "ab")
    run_record.note_changes(b, ["learning_rate: 0.0003 in the run, 0.0001 now"])
    found = drift_report.compare_runs(run_facts.read_run_facts(a), run_facts.read_run_facts(b))
    assert [finding.name for finding in found.factors] == ["forced"] and "0.0001 now" in found.sentence
    assert (
        drift_report.compare_runs(run_facts.read_run_facts(b), run_facts.read_run_facts(b)).verdict
        == "comparable_with_warnings"
    )


@settings(max_examples=40)
@given(*[st.fixed_dictionaries({}, optional={"lr": st.sampled_from([1e-4, 3e-4]), "mode": st.sampled_from("xy"),
         "patience": st.integers(7, 10), "ranks": st.integers(1, 2)})] * 2)  # fmt: skip
def test_neither_run_is_the_first(one, other):
    there, back = (
        drift_report.compare_runs(make(**one), make("b", **other)),
        drift_report.compare_runs(make("b", **other), make(**one)),
    )
    assert there.verdict == back.verdict and {each.name for each in there.factors} == {e.name for e in back.factors}


def test_a_batch_and_an_end_other_than_planned():
    done = {"batch": 64, "steps": 50}
    found = drift_report.compare_runs(make(batch=32, done=done), make("b", batch=32, done=done))
    assert names(found, "conflict") == ["batch, logged", "updates, logged"] * 2
