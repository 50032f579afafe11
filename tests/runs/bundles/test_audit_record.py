"""Records of an audit: one violation decides, and a changed file makes the record void."""

import hashlib
import json

import planted_runs
import pytest

from thunder.errors import ArtifactError
from thunder.runs.bundles import audit_record
from thunder.runs.bundles.audit_record import Condition

OK = Condition("no future", "ok", "10 probes agree", probes=10, max_diff=0.0)
SCOPES = {"eval": "the test rows", "pipeline": "all rows"}


@pytest.fixture
def run(tmp_path):
    return planted_runs.recognizer_run(tmp_path)


@pytest.mark.parametrize(
    ("states", "verdict"),
    [
        (["ok", "ok"], "pass"),
        (["ok", "inconclusive"], "inconclusive"),
        (["inconclusive", "violation", "ok"], "violation"),
        ([], "inconclusive"),
    ],
)
def test_the_worst_condition_decides(states, verdict):
    assert audit_record.audit_verdict([Condition("a", state, "b") for state in states]) == verdict


def test_a_record_of_both_stages_supports_a_claim(run):
    assert audit_record.audit_refusals(run)[0].startswith("no audit: ")
    written = audit_record.write_audit(run, {"eval": [OK]}, SCOPES)
    assert audit_record.audit_refusals(run) == ["no audit of stage pipeline"]
    audit_record.write_audit(run, {"pipeline": [OK]}, SCOPES)
    assert audit_record.audit_refusals(run) == [] and audit_record.audit_mismatches(run) == []
    record = audit_record.read_audit(run)
    assert record["stages"]["eval"] == written["stages"]["eval"], "a stage that still holds is kept"
    assert record["bound"]["results.json"] == hashlib.sha256((run / "results.json").read_bytes()).hexdigest()
    audit_record.write_audit(run, {"eval": [Condition("a", "violation", "b")]}, SCOPES)
    assert audit_record.audit_refusals(run) == ["audit of stage eval: violation"]


def test_a_file_that_changed_since_makes_the_record_void(run):
    audit_record.write_audit(run, {"eval": [OK], "pipeline": [OK]}, SCOPES)
    with (run / "results.json").open("a") as stream:
        stream.write(" ")
    assert audit_record.audit_mismatches(run) == ["results.json differs from the audited file"]
    assert audit_record.audit_refusals(run) == ["results.json differs from the audited file"]
    audit_record.write_audit(run, {"eval": [OK]}, SCOPES)
    assert audit_record.audit_refusals(run) == ["no audit of stage pipeline"], "a stage of the old file is gone"


def test_a_damaged_record_is_refused(run):
    audit_record.write_audit(run, {"eval": [OK]}, SCOPES)
    path = run / "audit.json"
    path.write_text(path.read_text().replace('"pass"', '"fail"'))
    with pytest.raises(ArtifactError, match="checksum"):
        audit_record.read_audit(run)
    path.write_text(json.dumps({"schema": "other"}))
    with pytest.raises(ArtifactError):
        audit_record.audit_mismatches(run)
