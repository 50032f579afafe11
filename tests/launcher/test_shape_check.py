"""Whether a job's shape is let through, on which chips, and what the past says: with plans made by hand."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from thunder.cluster.inventory import cluster_file
from thunder.cluster.ranks import oom_fallbacks
from thunder.errors import UsageError
from thunder.launcher import shape_check
from thunder.launcher.job import Job, Placement
from thunder.launcher.plan import JobFacts
from thunder.lora.lora_settings import LoraSettings
from thunder.training.shapes import chips
from thunder.training.shapes.model_size import E2B_CONFIG, model_size_from_config

GB = 2**30
MACS = cluster_file.Cluster(
    name="macs", hosts=[cluster_file.Host(name="Mac4", ssh="Mac4", ips=["10.0.0.1"]),
                        cluster_file.Host(name="Mac5", ssh="Mac5", ips=["10.0.0.2"])]
)  # fmt: skip
NAMES = ["Apple M4 Pro", "Apple M4"]


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def of(names=NAMES, memories=(24 * GB, 16 * GB), measured=(None, None), cluster=MACS, config=E2B_CONFIG, more=None,
       **options):  # fmt: skip
    """What the plan says of a shape on hosts with these chips."""
    size = model_size_from_config(config)
    machines = [{"memory": each, "measured": figures} for each, figures in zip(memories, measured, strict=True)]
    model = {"sha256": "abc", "size": size and asdict(size)}
    facts = {"model": model, "chips": names, "machines": machines} | (more or {})
    job = Job("train", "x", LoraSettings(**options), {}, JobFacts.model_validate(facts))
    return shape_check.check_shape(job, Placement(cluster, "said")).model_dump()


KILLED = {"batch_size": 2, "num_layers": 8, "max_seq_length": 512}


def test_the_worst_host_decides_and_is_named():
    assert of(num_layers=4, max_seq_length=256)["verdict"] == "safe"
    found = of(num_layers=16, max_seq_length=256)
    assert (found["verdict"], found["chip"]) == ("likely", "Apple M4") and "page" in found["reason"]
    assert found["nearest_safe"]["max_seq_length"] < 256


def test_an_unsafe_shape_is_refused_with_the_nearest_safe_one_unless_asked_for():
    with pytest.raises(UsageError) as caught:
        of(**KILLED)
    assert "batch 2, 8 LoRA layers, 512 tokens on Apple M4" in caught.value.message
    assert "--batch-size 1" in caught.value.fix and "--ignore-memory-check" in caught.value.fix
    assert of(ignore_memory_check=True, **KILLED)["verdict"] == "unsafe"
    with pytest.raises(UsageError, match="the machine has"):
        of(memories=(24 * GB, 8 * GB))


def test_an_engine_that_leaves_out_what_is_not_supervised_may_do_more():
    most = {"data": {"train": {"rows": 9, "most_supervised_tokens": 150}}}
    assert of(more={"engine": {"name": "gemma4"}} | most, **KILLED)["verdict"] == "safe"
    with pytest.raises(UsageError):
        of(more={"engine": {"name": "plain"}} | most, **KILLED)


def test_where_nothing_kills_nothing_is_refused():
    found = of(names=["AMD", "AMD"], **KILLED)
    assert (found["verdict"], found["chip"]) == ("unsafe", shape_check.STAND_IN)


def test_a_model_that_cannot_be_calculated_is_no_reason_to_refuse():
    found = of(config={"model_type": "mamba"}, **KILLED)
    assert found["verdict"] == "likely" and "config" in found["reason"]


def test_what_was_measured_on_a_host_is_used():
    fast = asdict(chips.published_chips()["Apple M4"]) | {"name": "Apple M9", "source": "measured on 2026-11-21"}
    fast |= {key: fast[key] * 40 for key in ("reduced", "bandwidth", "float32", "attention", "quantised")}
    found = of(names=["Apple M9"] * 2, memories=(64 * GB, 64 * GB), measured=(fast, fast), **KILLED)
    assert (found["verdict"], found["chip"], found["figures"]) == ("safe", "Apple M9", "measured on 2026-11-21")
    assert of(names=["Apple M9"] * 2)["chip"] == shape_check.STAND_IN, (
        "a chip without figures is judged as a slower one"
    )


def test_ranks_of_one_host_share_its_memory():
    both = cluster_file.Cluster(name="one", hosts=[MACS.hosts[0], MACS.hosts[0].model_copy(update={"name": "again"})])
    assert of(names=["Apple M4 Pro"] * 2, memories=(24 * GB, 24 * GB))["verdict"] == "safe"
    found = of(names=["Apple M4 Pro"] * 2, memories=(24 * GB, 24 * GB), cluster=both, ignore_memory_check=True)
    assert found["verdict"] != "safe"


def test_a_past_incident_wins_and_a_run_that_starts_lower_is_let_through(state):
    shape = oom_fallbacks.WorkloadShape(tuple(sorted(NAMES)), "abc", 2, 4, 64, False)
    assert of(batch_size=2, num_layers=4, max_seq_length=64)["verdict"] == "safe"
    oom_fallbacks.record_incident(state, shape, 1, run="run-7")
    found = of(batch_size=2, num_layers=4, max_seq_length=64)
    assert found["verdict"] == "unsafe" and "run-7" in found["reason"]
    with pytest.raises(UsageError, match="run-7"):
        of(batch_size=2, num_layers=4, max_seq_length=96)  # larger, and nothing makes it start lower
    assert of(batch_size=1, num_layers=4, max_seq_length=96)["verdict"] == "safe"
    assert of(batch_size=2, num_layers=4, max_seq_length=96, config=E2B_CONFIG, names=["Apple M5"] * 2,
              memories=(64 * GB, 64 * GB))["verdict"] == "safe"  # fmt: skip
