"""The typed plan: its keys on disk, plans of version 0.1.0, and what is refused."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError
from version_artifacts import ARTIFACTS

from thunder.errors import ArtifactError
from thunder.launcher.plan import BatchPart, JobFacts, Plan, read_plan

OLD_PLANS = sorted(ARTIFACTS.glob("runs/*/plan.json"))


@pytest.mark.parametrize("path", OLD_PLANS, ids=lambda path: path.parent.name)
def test_a_plan_of_version_0_1_0_is_read_and_written_with_the_same_keys_and_values(path):
    assert read_plan(path.parent).to_json() == json.loads(path.read_text(encoding="utf-8"))


def test_there_are_old_plans_of_every_kind():
    assert {read_plan(path.parent).job for path in OLD_PLANS} == {"train", "pretrain", "asr"}


def test_only_what_was_set_is_written_and_a_keyword_of_python_has_its_key():
    part = BatchPart(per_rank=1, global_=2, grad_accumulation_steps=1, rows_per_update=2)
    assert part.to_json() == {"per_rank": 1, "global": 2, "grad_accumulation_steps": 1, "rows_per_update": 2}
    assert JobFacts().to_json() == {} and JobFacts(chips=None).to_json() == {"chips": None}


def test_a_key_that_is_not_declared_is_refused_where_a_plan_is_made_and_dropped_where_one_is_read(tmp_path):
    values = json.loads(OLD_PLANS[0].read_text(encoding="utf-8"))
    later = values | {"of_a_later_version": 1, "batch": values["batch"] | {"more": 2}}
    with pytest.raises(ValidationError):
        Plan.model_validate(later)
    (tmp_path / "plan.json").write_text(json.dumps(later), encoding="utf-8")
    assert read_plan(tmp_path).to_json() == values
    with pytest.raises(ValidationError):  # frozen
        read_plan(tmp_path).run = "other"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("{", "Expecting property name"),
        ("[]", "plan.json: ''"),
        ('{"job": "train"}', "'run': Field required"),
    ],
)
def test_a_damaged_plan_is_an_error_that_names_the_file_and_the_way_on(tmp_path, text, message):
    if text is not None:
        (tmp_path / "plan.json").write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError) as caught:
        read_plan(tmp_path)
    assert message in caught.value.message and str(tmp_path / "plan.json") in caught.value.message
    assert str(tmp_path / "config.yaml") in caught.value.fix
