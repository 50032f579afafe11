"""Names of options: each option has one name, whatever format or version it is read from."""

from __future__ import annotations

from thunder.runs.records import option_names


def test_a_cluster_goes_by_its_name_wherever_its_file_lies():
    paths = ("/home/a/Mac4.yaml", "elsewhere/Mac4.yaml", "/home/a/Mac5.yaml")
    asked = [option_names.with_canonical_names({"cluster": path}) for path in paths]
    assert asked == [{"cluster": "Mac4"}, {"cluster": "Mac4"}, {"cluster": "Mac5"}]
    assert option_names.with_canonical_names({"cluster": None}) == {"cluster": None}
    assert option_names.with_canonical_names({"cluster": "lab.a"}) == {"cluster": "lab.a"}


def test_an_option_is_the_same_under_its_old_name():
    old, new = {"window": 4, "unsafe_shape": True}, {"chunk_words": 4, "ignore_memory_check": True}
    assert option_names.with_canonical_names(old) == option_names.with_canonical_names(new) == new
