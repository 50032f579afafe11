"""Paths as every host of a cluster understands them."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.launcher.options import setting_paths
from thunder.launcher.options.setting_paths import PATH_OPTIONS, local_paths, portable_paths
from thunder.lora.lora_settings import LoraSettings, PretrainSettings

NAMES = st.text(st.sampled_from("ab~.-_ ߊé"), min_size=1, max_size=4).filter(lambda name: name not in (".", ".."))
INSIDE = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


@pytest.fixture
def elsewhere(monkeypatch):
    """This host, and then another one with its project and its home in other places."""

    def move(repository: str, home: str) -> None:
        monkeypatch.setattr(setting_paths, "REPOSITORY", Path(repository))
        monkeypatch.setenv("HOME", home)

    return move


@pytest.mark.expensive
@settings(max_examples=150)
@given(st.sampled_from(["/home/a/thunder", "/home/a", "/srv", "/home/ab"]), INSIDE)
def test_here_a_path_comes_back_as_it_was(root, name):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setting_paths, "REPOSITORY", Path("/home/a/thunder"))
        patch.setenv("HOME", "/home/a")
        before = LoraSettings(data=f"{root}/{name}", adapter_path=f"{root}/{name}")
        after = local_paths(portable_paths(before))
        assert after.data == after.adapter_path == str(Path(f"{root}/{name}"))
        again = portable_paths(before)
        assert portable_paths(again) == again, "said twice it says the same"


@pytest.mark.parametrize(
    "here, there",
    [
        ("/home/a/thunder/data/x", "/Users/b/T/data/x"),
        ("/home/a/corpora/x", "/Users/b/corpora/x"),
        ("/srv/x", "/srv/x"),
        ("/home/ab/x", "/home/ab/x"),
        ("/home/a/thunder", "/Users/b/T"),
        ("/home/a/thunder/~b/x", "/Users/b/thunder/~b/x"),
    ],
)
def test_another_host_finds_its_own_copy(elsewhere, here, there):
    elsewhere("/home/a/thunder", "/home/a")
    sent = portable_paths(LoraSettings(data=here))
    elsewhere("/Users/b/T", "/Users/b")
    assert local_paths(sent).data == there


def test_what_is_not_given_stays_so_and_nothing_else_is_touched():
    for plain in (LoraSettings(), PretrainSettings(text_root="corpus", text=["*.txt"])):
        assert portable_paths(plain) == plain
        given = {name: getattr(plain, name) for name in PATH_OPTIONS if hasattr(plain, name)}
        unset = {name for name, value in given.items() if not value}
        changed = local_paths(plain)
        assert all(getattr(changed, name) == given[name] for name in unset)
        for name in type(plain).model_fields:
            assert name in PATH_OPTIONS or name == "model" or getattr(changed, name) == getattr(plain, name)


@pytest.mark.parametrize("model", ["mlx-community/gemma-3-1b-it", "a/b", None])
def test_a_repository_stays_one(model, elsewhere, tmp_path):
    elsewhere(str(tmp_path), str(tmp_path))
    before = LoraSettings(model=model)
    assert local_paths(portable_paths(before)).model == model


def test_a_model_that_lies_in_the_project_is_found_there(elsewhere, tmp_path):
    elsewhere(str(tmp_path), "/home/a")
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    sent = portable_paths(LoraSettings(model=str(tmp_path / "models/tiny")))
    assert sent.model == "models/tiny" and local_paths(sent).model == str(tmp_path / "models/tiny")


def test_a_choice_between_words_is_no_path():
    """`split` is a file of the recognizer's, and a way to divide rows."""
    chosen = LoraSettings(split="own", train_data="rows.jsonl")
    assert local_paths(chosen).split == portable_paths(local_paths(chosen)).split == "own"
    assert local_paths(AcousticSettings(features=["f"], split="s.json")).split.endswith("/s.json")
