"""Near duplicates by a shared stretch and by edits, with what was looked for."""

from thunder.corpora.splits.near_duplicate_index import NearDuplicateIndex

HELD = ["abcdefghij klmnopqrst", "ߓߊ߲ߓߊ"]


def test_each_kind_is_found_and_named():
    index = NearDuplicateIndex(chars=8)
    index.add([3, 7], HELD)
    found = index.near(["xx abcdefgh xx", "ߓߊ߲ߓߏ", "a quite different text"])
    assert found == [(3, "stretch"), (7, "edits"), None]
    assert index.held_out == 2


def test_without_edits_only_stretches_are_found():
    index = NearDuplicateIndex(chars=8, edits=0.0)
    index.add([3, 7], HELD)
    assert index.near(["xx abcdefgh xx", "ߓߊ߲ߓߏ"]) == [(3, "stretch"), None]
    assert index.describe() == "8 shared code points"
    assert index.criteria()["most_edits"] is None


def test_what_is_looked_for_is_said_and_comes_from_the_settings():
    index = NearDuplicateIndex.of_settings({"near_duplicate_chars": 30})
    assert index.criteria() == {
        "shared_code_points": 30,
        "edits_share": 0.1,
        "one_edit_from_code_points": 4,
        "most_edits": 20,
    }
    assert "30 shared code points, or edits up to 10% of the shorter text" in index.describe()
    assert NearDuplicateIndex.of_settings({"near_duplicate_edits": 0.0}).edits == 0
