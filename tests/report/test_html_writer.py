"""A page as a file: hostile texts stay texts, hidden characters are shown, only our scripts may run."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import read_page, rendered

from thunder.report import charts, html_writer
from thunder.report.charts import Dumbbell
from thunder.report.page_model import Page, PageSection, PageTable, RowView, TableCell, TextLine

HOSTILE = [
    "<script>alert(1)</script>", "</script><img src=x onerror=alert(1)>", "<!--<script>", "\"' onload=alert(1) x='",
    "{{ 7 * 7 }}{% for %}", "\u202ereversed\u2066", "\u2028\u2029", "\ud800", "]]>", "&lt;b&gt;", "javascript:alert(1)",
    "\x00\x1b[31m", "${alert(1)}`", "\\u003cscript\\u003e", "ߊ" * 3000,
]  # fmt: skip


def page_with(text):
    """A page that has a text in every place that a text can come to."""
    row = RowView(
        text, 0, [TextLine("reference", [text, ["~", text, text]])], text, text, text, 1, 2, 3, text, [text], None
    )
    spec = charts.dumbbell_chart([Dumbbell(text, 0.5, 0.4, 0.3, 0.5)], "CER")
    table = PageTable(
        [text, text], [[text, TableCell(text, letter=True)], [text, TableCell(text, tone="good")]], prose=True
    )
    part = PageSection("part", text, [text], spec, text, table)
    return Page(text, text, [(text, text)], [(text, text)], [text], [part], [row], [text])


@pytest.mark.expensive
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_stay_texts(text):
    html = rendered(page_with(text))
    html.encode()
    got = read_page(html)
    shown = html_writer.escape_hidden(text)
    assert got.rows[0][0] == shown and got.rows[0][11][0][1][0] == text
    assert got.of("h1")[0] == shown
    assert {tag for tag, *_ in got.attributes} == {tag for tag, *_ in read_page(rendered(page_with("x"))).attributes}
    assert len(got.scripts) == 2
    assert not [each for each in got.attributes if each[1].startswith("on")]
    spec = json.dumps(got.specs["part"], ensure_ascii=False)
    assert '"layer"' in spec and not [each for each in spec if each in "\u202e\u2066\ud800\u2028"]


VALUES = st.recursive(
    st.text() | st.integers() | st.none(), lambda each: st.lists(each) | st.dictionaries(st.text(), each)
)  # fmt: skip


@pytest.mark.expensive
@settings(max_examples=60)
@given(VALUES)
def test_a_data_block_reads_back_and_cannot_end_its_element(value):
    block = html_writer.data_block(value)
    assert json.loads(block) == value
    assert not set("<>&\u2028\u2029") & set(block)


def test_half_characters_can_be_written():
    assert json.loads(html_writer.data_block(["\ud83d", "ߊ😀"]).encode()) == ["\ud83d", "ߊ😀"]


def test_a_page_without_pictures_leaves_the_drawing_out():
    html = rendered(Page("t", "k"))
    assert len(read_page(html).scripts) == 1 and len(html) < 40_000


@pytest.mark.expensive
def test_the_same_page_twice_is_the_same_file(tmp_path):
    """With the true drawing library: two processes would write the same, too."""
    html_writer.write_page(page_with("x"), tmp_path / "a")
    html_writer.vega_script.cache_clear()
    html_writer.write_page(page_with("x"), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert "</script" not in html_writer.vega_script() and "vegaEmbed" in html_writer.vega_script()
