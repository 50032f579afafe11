"""Configuration: YAML is read as people write it, a fault is named with its line, and layers merge into settings."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from renamed_settings import Before, Now

from thunder import digest
from thunder.config import (
    SettingsLayer,
    build_settings,
    dump_yaml,
    load_yaml,
    option,
    option_names,
    with_current_names,
    with_values_before,
)
from thunder.errors import ConfigError


def yaml(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_that_is_not_utf8(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_bytes(b"name: \xff")
    with pytest.raises(ConfigError, match="byte 6 is not UTF-8"):
        load_yaml(path)


@pytest.mark.parametrize("text", ["1e-5", "1E-5", "1.5", ".5", "2.", "-3e4", "+1e3"])
def test_numbers_are_read_as_people_write_them(tmp_path, text):
    assert load_yaml(yaml(tmp_path, f"a: {text}\n")) == {"a": float(text)}


@pytest.mark.parametrize("text", ["0", "7", "-3", "+12", "1000"])
def test_whole_numbers_are_decimal(tmp_path, text):
    assert load_yaml(yaml(tmp_path, f"a: {text}\n")) == {"a": int(text)}


@pytest.mark.parametrize(
    ("text", "merged"),
    [
        ("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  x: 3\n", {"x": 3, "y": 2}),
        ("a: &a {x: 1}\nc: &c {x: 2, y: 2}\nb: {<<: [*a, *c], z: 3}\n", {"x": 1, "y": 2, "z": 3}),
        # here the anchored mapping is merged into another before its own keys are looked at
        ("a: {deep: &d {<<: &e {x: 1}, x: 2}}\nb: {<<: *d, y: 3}\n", {"x": 2, "y": 3}),
    ],
)
def test_merge_keys_merge(tmp_path, text, merged):
    assert load_yaml(yaml(tmp_path, text))["b"] == merged


def test_a_key_said_twice_is_found_beside_a_merge_key(tmp_path):
    with pytest.raises(ConfigError, match="run.yaml:5: key 'x' stands on line 4 and again on line 5"):
        load_yaml(yaml(tmp_path, "a: &a {x: 1}\nb:\n  <<: *a\n  x: 2\n  x: 3\n"))


def test_words_stay_words(tmp_path):
    assert load_yaml(yaml(tmp_path, "a: no\nb: on\nc: off\nd: y\n")) == {"a": "no", "b": "on", "c": "off", "d": "y"}


@given(
    st.one_of(
        st.text(),
        st.from_regex(r"[-+]?[0-9.]{1,3}[eE:]?[-+]?[0-9]{0,3}", fullmatch=True),
        st.floats(allow_nan=False, allow_infinity=False),
        st.integers(),
    )
)
def test_any_value_that_is_written_reads_back_the_same(value):
    """A folder called 1e5 stays a text, 1e-05 a number."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.yaml"
        path.write_text(dump_yaml({"a": value}), encoding="utf-8")
        read = load_yaml(path)["a"]
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize("key", ["window", "chunk_words", "words"])
def test_old_names_stay_keys_of_files_and_of_stored_settings(key):
    settings, sources = build_settings(Now, [SettingsLayer("run.yaml", {key: 6, "paths": ["a"]})])
    assert (settings.chunk_words, settings.files, sources["chunk_words"]) == (6, ["a"], "run.yaml")
    assert option_names(Now)[key] == "chunk_words"


def test_stored_settings_of_an_earlier_version_are_read():
    stored = Before(window=6, unsafe=True, paths=["a"]).resolved()
    now = Now(chunk_words=6, ignore_check=True, files=["a"])
    assert Now.model_validate(stored) == now and Now(**stored) == now
    assert with_current_names(Now, stored) == now.resolved()


def test_a_rename_keeps_the_digest_of_the_settings():
    before = Before(window=6, paths=["a"])
    assert before.digest() == digest.sha256_json(before.resolved())
    assert Now(chunk_words=6, files=["a"]).digest() == before.digest() != Now().digest()


def test_an_added_option_changes_the_digest_only_where_it_is_set():
    class Later(Now):
        split: str | None = option(None, "Added after version 0.1.0.", added_later=True)

    assert Later(chunk_words=6, files=["a"]).digest() == Now(chunk_words=6, files=["a"]).digest()
    assert Later(split="x").digest() != Later().digest()


def test_old_and_new_name_in_one_source_are_refused():
    with pytest.raises(ConfigError, match="'window' and 'chunk_words' are the same option"):
        build_settings(Now, [SettingsLayer("run.yaml", {"chunk_words": 6, "window": 6})])
    with pytest.raises(ValueError, match="window"):
        Now.model_validate({"chunk_words": 6, "window": 6})


def test_a_hint_for_a_misspelt_name_is_a_current_one():
    with pytest.raises(ConfigError) as error:
        build_settings(Now, [SettingsLayer(str(Path("run.yaml")), {"windo": 6, "chunk_word": 6})])
    assert "Did you mean 'chunk_words'?" in str(error.value) and "'window'" not in str(error.value)


def test_settings_of_an_earlier_version_do_what_they_did():
    class Later(Now):
        split: str = option("own", "Added after version 0.1.0.", added_later=True, value_before="by-hash")

    stored = with_values_before(Later, Now().resolved())
    assert stored["split"] == "by-hash" and Later(**stored).digest() == Now().digest()
    assert with_values_before(Later, {"split": "own"}) == {"split": "own"}
