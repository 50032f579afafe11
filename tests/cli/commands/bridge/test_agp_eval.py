"""`thunder agp eval`: the published runs by the command, engines, folders, and what it leaves behind."""

from __future__ import annotations

import json

import pytest
from conftest import REPOSITORY, write_rows

from thunder.cli.main import main
from thunder.evaluation.claims import repair_evidence

FIXTURES = REPOSITORY / "tests" / "fixtures"
RUNS = ("smoke", "synthetic", "real")
TEXT, BETTER = "ߣߋߤߍߛߍ ߡߌ ߓ", "ߣߋߛߍߛߍ ߡߌ ߓ"
SURE = {"confidence": -0.05, "margin": 0.2}


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def rows(tmp_path):
    made = [
        {"feat_id": f"r{number}", "asr_text": TEXT, "reference_text": BETTER, "partition": "uncertain",
         "evidence_class": "real_same_provenance", "proposal": BETTER, **SURE}
        for number in range(3)
    ]  # fmt: skip
    return write_rows(tmp_path / "rows.jsonl", made)


def scored(capsys, *words, code=0):
    assert main(["agp", "eval", *map(str, words), "--json", "--resamples", "100"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.mark.expensive
def test_the_published_runs_come_out_of_the_command(capsys):
    """CER before and after, improved, neutral, worse, and 1 - 0.05 ** (1 / accepted), as published."""
    assert main(["agp", "eval", *(str(FIXTURES / f"{name}.jsonl") for name in RUNS)]) == 0
    said = capsys.readouterr().out
    for line in (
        "CER 0.1429 -> 0.0476 on 2 rows (3 -> 1 edits of 21 code points)",
        "2 improved, 0 neutral, 0 worse of 2 accepted: at most 77.6% worse",
        "CER 0.1333 -> 0.1000 on 8 rows (12 -> 9 edits of 90 code points)",
        "3 improved, 5 neutral, 0 worse of 8 accepted: at most 31.2% worse",
        "CER 0.7604 -> 0.7512 on 6 rows (330 -> 326 edits of 434 code points)",
        "1 improved, 0 neutral, 0 worse of 1 accepted: at most 95.0% worse",
        "evidence: smoke", "evidence: synthetic", "evidence: real_same_provenance", "rules agp_rules_v2@",
        "novelty: 0.7910 -> 0.7910, 0 of 2 accepted",
    ):  # fmt: skip
        assert line in said, line


@pytest.mark.expensive
def test_the_published_runs_come_out_of_the_gate_and_not_of_what_the_rows_say_was_accepted(capsys, tmp_path):
    for name in RUNS:
        lines = (FIXTURES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        made = [json.loads(line) for line in lines]
        wanted = sum(row.pop("accepted", True) for row in made)
        file = write_rows(tmp_path / f"{name}.jsonl", made)
        assert scored(capsys, file)["accepted"] == wanted
        # and without a word on how sure the proposer is, nothing is taken
        bare = [{key: value for key, value in row.items() if key not in SURE} for row in made]
        assert scored(capsys, write_rows(tmp_path / f"{name}-bare.jsonl", bare))["accepted"] == 0


def test_what_it_leaves_behind(capsys, tmp_path, rows):
    got = scored(capsys, rows, "--out", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        ".lock", "predictions.jsonl", "report.html", "results.json"]  # fmt: skip
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert {key: results[key] for key in ("cer_after", "accepted", "gate")} == {
        "cer_after": 0.0, "accepted": 3, "gate": got["gate"]}  # fmt: skip
    lines, faults = repair_evidence.recount_rows(tmp_path / "out" / "predictions.jsonl")
    assert not faults and [line["decision"] for line in lines] == ["accept"] * 3
    assert "Decisions by partition" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert main(["agp", "eval", str(rows), "--out", str(tmp_path / "out")]) == 2
    assert "holds finished results" in capsys.readouterr().err
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "plan.json").write_text("{}")
    assert main(["agp", "eval", str(rows), "--out", str(tmp_path / "run")]) == 2, "a run goes on there"


@pytest.mark.expensive
def test_an_oracle_is_no_evidence_whatever_the_rows_say(capsys, tmp_path, rows):
    got = scored(capsys, rows, "--engine", "oracle", "--out", tmp_path / "o")
    assert (got["accepted"], got["cer_after"], got["gate"]["evidence_class"]) == (3, 0.0, "oracle")
    found = {name: holds for name, holds, _ in repair_evidence.judge_repair(tmp_path / "o")[0]}
    assert not found["evidence_class"]
    assert main(["eval", "--rows", str(rows), "--engine", "oracle", "--json", "--out", str(tmp_path / "e")]) == 0
    assert json.loads(capsys.readouterr().out)["evidence_class"] == {"oracle": 3}
    got = scored(capsys, rows, "--out", tmp_path / "r")
    assert {name: holds for name, holds, _ in repair_evidence.judge_repair(tmp_path / "r")[0]}["evidence_class"]


def test_smoke_is_not_promoted_and_says_why(capsys, tmp_path):
    scored(capsys, FIXTURES / "smoke.jsonl", "--out", tmp_path / "s")
    [(name, holds, said), *_] = repair_evidence.judge_repair(tmp_path / "s")[0]
    assert (name, holds, said) == ("evidence_class", False, "evidence_class=smoke, accepted 2 < 299")


@pytest.mark.expensive
def test_other_rules_and_other_proposals(capsys, tmp_path, rows):
    assert scored(capsys, rows, "--engine", "identity")["gate"]["decisions"] == {"accept": 0, "reject": 0, "keep": 3}
    file = write_rows(tmp_path / "p.jsonl", [{"id": f"r{n}", "proposal": "", **SURE} for n in range(3)])
    got = scored(capsys, rows, "--engine", f"file:{file}")
    assert got["gate"]["decisions"]["reject"] == 3 and got["gate"]["reasons"]["empty"] == 3
    text = (REPOSITORY / "configs" / "gate" / "agp_rules_v2.yaml").read_text(encoding="utf-8")
    strict = tmp_path / "strict.yaml"
    strict.write_text(text.replace("min_margin: 0.10", "min_margin: 0.25"), encoding="utf-8")
    for flag in ("--gate-rules", "--rules", "--gate"):
        got = scored(capsys, rows, flag, strict)
        assert got["accepted"] == 0 and got["gate"]["reasons"] == {"margin": 3}
    assert got["gate"]["refused"] == {"better": 3, "same": 0, "worse": 0}


def test_rows_without_references_are_predictions_only(capsys, tmp_path):
    file = write_rows(tmp_path / "r.jsonl", [{"id": "a", "asr_text": TEXT, "partition": "uncertain", "proposal": BETTER,
                                              "evidence_class": "real_same_provenance", **SURE}])  # fmt: skip
    assert main(["agp", "eval", str(file)]) == 0
    said = capsys.readouterr().out
    assert "evidence: prediction_only" in said and "1 accept" in said and "no error rates" in said
    assert "CER" not in said


def test_files_of_one_name_and_several_folders(capsys, tmp_path, rows):
    (tmp_path / "x").mkdir()
    other = write_rows(tmp_path / "x" / "rows.jsonl", [{"asr_text": TEXT, "reference_text": BETTER}])
    assert main(["agp", "eval", str(rows), str(other)]) == 2
    assert "files with the same name: rows" in capsys.readouterr().err
    third = other.rename(tmp_path / "x" / "third.jsonl")
    got = scored(capsys, rows, third, "--engine", "identity", "--out", tmp_path / "out")
    assert [each["folder"] for each in got] == [str(tmp_path / "out" / name) for name in ("rows", "third")]


@pytest.mark.parametrize("words, fault", [
    (("--engine", "gpt"), "no such engine"), (("--engine", "rows:x"), "no such engine"),
    (("--engine", "identity", "--model", "x"), "uses no model"),
    (("--engine", "http://"), "not an address of a bridge"),
    (("--engine", "http://user:pw@host:1"), "a name or a password"), (("--engine", "file:none"), "No such file"),
    (("--engine", "identity", "--engine-bearer-file", "x"), "takes no token"),
    (("--gate-rules", "none.yaml"), "No such"),
])  # fmt: skip
def test_what_cannot_be_done(capsys, rows, words, fault):
    assert main(["agp", "eval", str(rows), *words]) == 2
    said = capsys.readouterr().err
    assert fault in said and "Traceback" not in said


@pytest.mark.expensive
def test_a_model_with_its_base_beside_the_adapter(capsys, rows, tiny_model, adapter):
    words = (rows, "--engine", "mlx", "--model", tiny_model, "--limit", "2")
    got = scored(capsys, *words, "--adapter", adapter)
    assert got["rows"] == 2 and got["ground"]["adapter_sha256"]
    # neither is sure enough of anything, so that behind the gate both leave the input alone
    assert got["base"]["cer_after"] == got["cer_before"] == got["cer_after"] != got["cer_blind"]
    assert got["adapter_over_base"]["cer_change"] == 0
    alone = scored(capsys, *words, "--adapter", adapter, "--compare", "none")
    assert "base" not in alone and alone["gate"] == got["gate"]


def test_an_interrupted_one_goes_on(capsys, tmp_path, rows, monkeypatch):
    from thunder.evaluation import engines

    real, calls = engines.IdentityEngine.propose, []

    def stops(self, cases, finished=engines.ignore_progress):
        calls.append(len(cases))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, cases, finished)

    monkeypatch.setattr(engines.IdentityEngine, "propose", stops)
    monkeypatch.setattr(engines.IdentityEngine, "chunk", 2)
    words = ["agp", "eval", str(rows), "--engine", "identity", "--out", str(tmp_path / "out"), "--json"]
    assert main(words) == 130 and f"--out {tmp_path / 'out'}" in capsys.readouterr().err
    assert main(words) == 0
    got = json.loads(capsys.readouterr().out)
    assert (got["rows"], got["resumed_after"], calls) == (3, 2, [2, 1, 1])
    assert sum(got["gate"]["decisions"].values()) == 3
