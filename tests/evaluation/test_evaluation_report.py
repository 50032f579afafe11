"""The page: it needs nothing else, nothing in a row can break it, and its marks say the differences."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from thunder.evaluation import cases, differences, report, summary
from thunder.evaluation.engines import Proposal
from thunder.evaluation.judge import judged
from thunder.evaluation.summary import Drawing

VOID = {"meta"}


class Balanced(HTMLParser):
    """Reads a page, sees that every tag is closed, and keeps texts by tag."""

    def __init__(self):
        super().__init__()
        self.open, self.texts, self.attributes = [], {}, []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)


def page(rows):
    results = summary.summarise(rows, Drawing(resamples=100)) | {"ground": {"engine": "x", "rows_sha256": "f" * 64}}
    parser = Balanced()
    parser.feed(report.html(rows, results))
    assert not parser.open
    return parser


def row(text, proposal, reference, row_id="r", **more):
    case = cases.Case(0, row_id, text, reference, (), script=cases.script_of(reference))
    return judged(case, Proposal(proposal, **more), Proposal(text))


def test_it_stands_alone_and_n_ko_runs_from_right_to_left():
    got = page([row("ߊߋ", "ߊߌ", "ߊߌ"), row("abc", "abd", "abc")])
    assert not [each for each in got.attributes if each[1] in ("src", "href")]
    assert "url(" not in report.STYLE and "prefers-color-scheme: dark" in report.STYLE
    directions = {value for _, name, value in got.attributes if name == "dir"}
    assert {"rtl", "ltr"} <= directions
    assert ("meta", "content", "width=device-width, initial-scale=1") in got.attributes


def test_texts_cannot_break_out():
    bad = "<script>alert(1)</script>&\"'"
    got = page([row(bad, "x" + bad, bad, row_id=bad), row("a", "", bad)])
    assert "script" not in got.texts
    assert any(bad in text for text in got.texts["span"])


def test_no_rows_no_better_no_worse():
    assert "None." in page([]).texts["p"]
    assert page([row("a", "a", "")]).texts["h1"] == ["CER 0.0000 → 0.0000 on 0 rows"]


@pytest.mark.parametrize("hypothesis, reference, wanted", [
    ("abc", "abc", "abc"), ("axc", "abc", "a<del>x</del><ins>b</ins>c"), ("ac", "abc", "a<ins>b</ins>c"),
    ("abxc", "abc", "ab<del>x</del>c"), ("", "a<", "<ins>a&lt;</ins>"),
    ("ߞߊ ߡ", "ߞߊ߬ ߡ", "ߞ<del>ߊ</del><ins>ߊ߬</ins> ߡ"),
])  # fmt: skip
def test_marks(hypothesis, reference, wanted):
    assert differences.marked(hypothesis, reference) == wanted


def test_marks_give_back_both_texts():
    hypothesis, reference = "ߊ߬ ߞߋ߬ ߕߊ߯ߛߏ ߡߐ߱ߡ", "ߊ߬ ߞߊ߬ ߕߊ߯ ߛߏ ߡߐ߱"
    marked = differences.marked(hypothesis, reference)
    heard = re.sub("<ins>.*?</ins>|</?del>", "", marked)
    wanted = re.sub("<del>.*?</del>|</?ins>", "", marked)
    assert (heard, wanted) == (hypothesis, reference)


def test_confusions_before_and_after():
    rows = [row("axc", "abc", "abc"), row("axc", "ayc", "abc"), row("ac", "ac", "abc")]
    found = {(each.reference, each.hypothesis): (each.before, each.after) for each in differences.confusions(rows)}
    assert found == {("b", "x"): (2, 0), ("b", "y"): (0, 1), ("b", ""): (1, 1)}


def test_a_refused_proposal_is_not_shown_as_the_result():
    rows = [row("abd", "xyz", "abc", accepted=False)]
    assert differences.confusions(rows)[0].after == 1
    assert "xyz" not in "".join(sum(page(rows).texts.values(), []))


@pytest.mark.parametrize("cluster, shown", [("", "nothing"), (" ", "space"), ("߬", "◌߬"), ("ߊ߬", "ߊ߬")])
def test_a_cluster_can_be_seen(cluster, shown):
    assert differences.shown(cluster) == shown
