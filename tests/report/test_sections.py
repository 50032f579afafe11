"""Sections that several pages share: the loss, groups in their own order, and confusions by kind."""

from __future__ import annotations

from thunder.report import sections
from thunder.report.loss_curve import build_loss_curve
from thunder.report.text_diff import count_confusions


def test_no_loss_no_section_and_the_last_counted_values_else():
    assert sections.loss_sections(build_loss_curve([])) == []
    metrics = [
        {"time": 1, "step": 4, "loss": 4.0}, {"time": 2, "step": 8, "loss": 3.0},
        {"time": 3, "step": 8, "valid_loss": 2.5, "best_loss": 2.5, "best_step": 8},
        {"time": 4, "step": 9, "loss": 2.0},
    ]  # fmt: skip
    (part,) = sections.loss_sections(build_loss_curve(metrics))
    assert part.table.lines == [
        ["last", "9", "training 2.0000, validation 2.5000"], ["best checkpoint", "8", "validation 2.5000"]
    ]  # fmt: skip
    assert part.notes == ["The ring is the best checkpoint."]


def test_groups_are_in_their_own_order():
    names = ["unknown", "novelty", "boundary", "stable", "uncertain"]
    assert list(sections.sort_groups({name: {} for name in names})) == [
        "stable", "boundary", "uncertain", "novelty", "unknown"
    ]  # fmt: skip


def test_fewer_is_better():
    cells = [sections.change_cell(before, after) for before, after in ((3, 1), (1, 3), (2, 2))]
    assert [(cell.text, cell.tone) for cell in cells] == [("-2", "good"), ("+2", "bad"), ("+0", "")]


def test_confusions_are_counted_by_kind():
    assert sections.confusion_sections([]) == []
    confusions = count_confusions([("ab c", "xb c", "ab c"), ("ab c", "abc", "abc")])
    assert sections.confusion_kind_table(confusions) == "In all: tone marks 0, word space 1 to 1, letters 1 to 0."
    (part,) = sections.confusion_sections(confusions)
    assert sorted(line[2:5] for line in part.table.lines) == [["letters", "1", "0"], ["word space", "1", "1"]]
