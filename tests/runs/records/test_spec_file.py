"""Files that users write before a run: JSON and YAML give the same settings, and each fault is named with its place."""

import json

import pytest

from thunder.config import Settings
from thunder.errors import ConfigError
from thunder.runs.records import spec_file


class Part(Settings):
    """A part of a file."""

    rate: float
    names: list[str] = []


class Whole(Settings):
    """A file."""

    id: str
    parts: list[Part] = []


GOOD = {"id": "a", "parts": [{"rate": 1, "names": ["x"]}]}


def test_json_and_yaml_give_the_same_settings(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(GOOD))
    (tmp_path / "a.yaml").write_text("id: a\nparts:\n  - rate: 1\n    names: [x]\n")
    expected = Whole(id="a", parts=[Part(rate=1.0, names=["x"])])
    assert (
        spec_file.read_spec(Whole, tmp_path / "a.json") == spec_file.read_spec(Whole, tmp_path / "a.yaml") == expected
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": "a",\n "id": }', "a.json:2: Expecting value"),
        ('{"id": "a", "id": "b"}', "key 'id' occurs twice in one object"),
        ('{"id": "a", "parts": [{"rate": 1, "rate": 2}]}', "key 'rate' occurs twice in one object"),
        ("[1]", "expected an object, found list"),
        ('{"parts": []}', "'id' is missing"),
        ('{"id": "a", "part": []}', "unknown key 'part'. Did you mean 'parts'?"),
        ('{"id": "a", "parts": [{"rate": 1, "name": []}]}', "unknown key 'parts[0].name'. Did you mean 'names'?"),
        ('{"id": "a", "parts": [{"rate": 1}, {"rate": "x"}]}', "'parts[1].rate' should be a valid number"),
    ],
)
def test_a_fault_is_named_with_its_place(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ConfigError) as caught:
        spec_file.read_spec(Whole, tmp_path / "a.json")
    assert message in caught.value.message and "a.json" in caught.value.message and caught.value.fix


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        spec_file.parse_spec(tmp_path / "none.json")
    with pytest.raises(ConfigError, match="No such file"):
        spec_file.parse_spec(tmp_path / "none.yaml")
