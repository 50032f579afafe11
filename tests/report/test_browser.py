"""Pages in headless Chromium: nothing complains or is fetched, N'Ko runs from right to left, everything can be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import CHROMIUM, DRIVER, MISSING, Browser
from conftest import write_rows

from thunder.bridge.gate import gate_rules
from thunder.bridge.gate_score import GateScorer
from thunder.evaluation import cases
from thunder.evaluation.engines import Proposal
from thunder.evaluation.metrics import summary
from thunder.evaluation.metrics.judge import judge_proposal
from thunder.evaluation.metrics.summary import BootstrapSettings
from thunder.report import html_writer, text_diff
from thunder.report.page_model import Page, RowView, TextLine
from thunder.report.pages import evaluation_page, log_page, run_page
from thunder.report.run_files import RunFiles
from thunder.text.row_fields import PARTITIONS

pytestmark = [pytest.mark.expensive, pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=MISSING)]
NKO_FONT = Path("/usr/share/fonts/truetype/noto/NotoSansNKo-Regular.ttf")
PLAIN_FONTS = Path("/usr/share/fonts/truetype/liberation")
HOSTILE = "</script><img src=x onerror=document.title='broken'>\u202e<b>"
TEXTS = {  # id: (reference, recognised, proposal)
    "worse": ("ߞߊ߬ ߕߊ߯ ߛߏ", "ߞߊ߬ ߕߊ߯ ߛߏ", "ߞߊ߬ ߛߏ"),
    "better": ("ߡߎ߰ߛߏ ߣߊ߬ ߟߊ߫", "ߡߎ߰ ߛߏ ߣߊ", "ߡߎ߰ߛߏ ߣߊ߬"),
    "same": ("ߘߋ߲ ߓߏ߲ ߖߌ", "ߘߋ߲ ߓߏ߲ ߖߌ", "ߘߋ߲ ߓߏ߲ ߖߌ"),
    "latin": ("muso nana", "muso nan", "muso nana"),
    f"hostile {HOSTILE}": ("ߊߋ", f"ߊ{HOSTILE}ߋ", "ߊߋ"),
}

FOUR_PARTITIONS = [name for name in PARTITIONS if name != "recovery"]


def judged_rows():
    rows = []
    for number in range(60):
        name, (reference, asr_text, proposal) = list(TEXTS.items())[number % len(TEXTS)]
        case = cases.Case(
            number, f"{name}-{number:02}", asr_text, reference, (),
            partition=FOUR_PARTITIONS[number % 4], script=cases.script_of_letters(reference),
        )  # fmt: skip
        rows.append(judge_proposal(case, Proposal(proposal, accepted=number != 7)))
    return rows


ROWS = judged_rows()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The page of an evaluation of TEXTS."""
    results = summary.summarize_rows(ROWS, BootstrapSettings(resamples=100))
    path = tmp_path_factory.mktemp("page") / "report.html"
    html_writer.write_page(evaluation_page.build_evaluation_page(ROWS, results, gate=0.2), path)
    return path


@pytest.fixture
def page(browser, file):
    """The page, freshly opened and drawn, what was said before forgotten."""
    return opened(browser, file)


def opened(browser, file, width=1280, dark=False):
    browser.shape(width, dark=dark)
    browser.open(file)
    browser.until("return document.documentElement.dataset.drawn")
    return browser


def shown(page):
    """The ids of the rows that are there."""
    return page.run("return [...document.querySelectorAll('.row h3')].map((each) => each.textContent)")


def status(page):
    return page.run("return document.getElementById('shown').textContent")


def choose(page, selector, value):
    page.run(
        "const field = document.querySelector(arguments[0]); field.value = arguments[1];"
        "field.dispatchEvent(new Event(field.type === 'search' ? 'input' : 'change', {bubbles: true}))",
        selector, value,
    )  # fmt: skip


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_complains_nothing_is_fetched_nothing_sticks_out(browser, file, width, dark):
    browser.open(file)
    browser.complaints(), browser.requests()
    opened(browser, file, width, dark)
    assert browser.complaints() == []
    assert browser.requests() == [file.as_uri()]
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.run("return document.querySelectorAll('.chart svg').length === 2")
    paper = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) < 200) == dark


def test_the_pages_of_runs_do_not_complain_either(browser, tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 4, "loss": 2.0, "time": 1}\n{"step": 4, "valid_loss": 2.0, "time": 1}\n'
        '{"step": 8, "loss": 1.0, "time": 3}\n{"step": 4, "loss": 1.9, "time": 4}\n'
    )
    (tmp_path / "incidents.jsonl").write_text('{"step": 5, "kind": "hang", "time": 2, "checkpoint": 4}\n')
    html_writer.write_page(run_page.read_run_page(RunFiles(tmp_path)), tmp_path / "run.html")
    opened(browser, tmp_path / "run.html")
    assert browser.complaints() == []
    ring = "return document.querySelector('.mark-symbol.role-mark path[d*=\"A\"]') !== null"
    assert browser.run(ring)
    assert browser.run("return document.querySelectorAll('.mark-rule line[stroke-dasharray=\"2,3\"]').length") == 2


def test_nor_do_those_of_recognisers_and_of_logs(browser, tmp_path):
    rows = [
        {"feat_id": str(number), "asr_text": text, "reference_text": "ߊߋ", "partition": part}
        for number, (text, part) in enumerate([("ߊ", "stable"), ("ߊߋ", "stable"), ("", "novelty")])
    ]
    write_rows(tmp_path / "test_predictions.jsonl", rows)
    html_writer.write_page(run_page.read_run_page(RunFiles(tmp_path), gate=0.3), tmp_path / "run.html")
    decisions = [
        {"row_id": "a", "decision": "accept", "input": "ߊ", "proposal": "ߊߋ", "reference": "ߊߋ", "partition": "stable"},
        {"row_id": "b", "decision": "reject", "input": "ߊ", "proposal": "b", "reasons": [["script", "b is not N'Ko"]]},
    ]
    html_writer.write_page(log_page.build_log_page("log", decisions, {}), tmp_path / "log.html")
    for name, pictures in (("run.html", 2), ("log.html", 4)):
        opened(browser, tmp_path / name)
        assert browser.complaints() == []
        assert browser.run("return document.querySelectorAll('.chart svg').length") == pictures
    choose(browser, "[data-filter='9']", "script")
    assert shown(browser) == ["b"]
    assert "script: b is not N'Ko" in browser.run("return document.querySelector('.row .about').textContent")


def test_nor_do_those_of_what_the_gate_would_do(browser, tmp_path):
    scorer = GateScorer(gate_rules.read_gate_rules())
    made = []
    for number, (reference, asr_text, proposal) in enumerate([*TEXTS.values()] * 5):
        fields = {"partition": FOUR_PARTITIONS[number % 4]}
        case = cases.Case(number, f"r{number:02}", asr_text, reference, (), script="nko", fields=fields)
        made.append(scorer.judge(case, Proposal(proposal, -0.01, margin=1.0)))
    bare = [row | {"reference": "", "reference_units": dict.fromkeys(row["reference_units"], 0)} for row in made]
    for name, rows in (("gate", made), ("bare", bare)):
        results = summary.summarize_rows(rows, BootstrapSettings(resamples=100)) | scorer.add_up(rows)
        html_writer.write_page(evaluation_page.build_evaluation_page(rows, results), tmp_path / f"{name}.html")
    opened(browser, tmp_path / "bare.html")
    assert browser.complaints() == []
    opened(browser, tmp_path / "gate.html")
    assert browser.complaints() == []
    assert "Had the rejected proposals been taken" in browser.run("return document.body.textContent")
    choose(browser, "[data-filter='9']", "edits")
    kept = [row["row_id"] for row in made if "edits" in [rule for rule, _ in row["reasons"]]]
    assert shown(browser) == kept and kept


def test_n_ko_runs_from_right_to_left(page):
    places = page.run(
        "const text = [...document.querySelectorAll('.row')].find((row) => row.textContent.startsWith('same'))"
        ".querySelector('bdi[dir=rtl]'); const node = text.firstChild.firstChild; text.scrollIntoView();"
        "const left = [0, 3, 7].map((at) => { const range = document.createRange(); range.setStart(node, at);"
        "range.setEnd(node, at + 1); return range.getBoundingClientRect().left });"
        "return [getComputedStyle(text).direction, getComputedStyle(text).textAlign, ...left]"
    )
    assert places[:2] == ["rtl", "start"] and places[2] > places[3] > places[4]
    assert page.run("return [...document.querySelectorAll('.row bdi[dir=ltr]')].length") == 3 * len(
        [each for each in shown(page) if each.startswith("latin")]
    )


@pytest.mark.skipif(not NKO_FONT.exists(), reason="no Noto Sans NKo: sudo apt-get install fonts-noto-core")
def test_n_ko_is_drawn_with_the_font_that_is_named(page):
    page.run("document.getElementById('list').scrollIntoView()")
    page.command("DOM.enable")
    page.command("CSS.enable")
    root = page.command("DOM.getDocument")["root"]["nodeId"]
    node = page.command("DOM.querySelector", nodeId=root, selector=".row dd bdi span")["nodeId"]
    for _ in range(100):  # a row that was out of sight is laid out with the next frame
        fonts = page.command("CSS.getPlatformFontsForNode", nodeId=node)["fonts"]
        if fonts:
            break
    assert "Noto Sans NKo" in {font["familyName"] for font in fonts}
    assert page.until("return document.getElementById('font').textContent") == "Noto Sans NKo"
    assert page.run("return document.getElementById('no-font').hidden")


@pytest.mark.skipif(not PLAIN_FONTS.is_dir(), reason="no fonts without N'Ko: sudo apt-get install fonts-liberation")
def test_a_missing_font_is_told_with_what_to_install(file, tmp_path):
    config = tmp_path / "fonts.conf"
    config.write_text(
        '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>'
        f"<dir>{PLAIN_FONTS}</dir><cachedir>{tmp_path}/cache</cachedir></fontconfig>"
    )
    without = Browser(tmp_path / "profile", FONTCONFIG_FILE=str(config))
    try:
        opened(without, file)
        assert without.run("return document.documentElement.dataset.nko") == "absent"
        notice = without.run("return document.getElementById('no-font').innerText")
        assert "No font for N'Ko" in notice and "apt-get install fonts-noto-core" in notice
        assert without.run("return document.getElementById('font').textContent") == "none"
        assert without.complaints() == []
    finally:
        without.close()


def test_hostile_texts_do_nothing(page):
    assert "broken" not in page.run("return document.title")
    assert page.run("return document.querySelectorAll('img, b:not(.cards b), iframe').length") == 0
    turns = "return /[\\u202a-\\u202e\\u2066-\\u2069]/.test(document.querySelector('#rows').textContent)"
    assert page.run(turns) is False
    assert page.run("return document.querySelector('.row h3 .code').textContent") == "U+202E"
    assert any(HOSTILE.partition("\u202e")[0] in each for each in shown(page))


def test_marks_can_be_told_apart_without_colours(page):
    styles = page.run(
        "const style = (name) => getComputedStyle(document.querySelector(`.row ${name}`));"
        "return [style('del').textDecorationLine, style('ins').outlineStyle, style('.sub').textDecorationStyle,"
        "getComputedStyle(document.querySelector('.row .sub'), '::before').content]"
    )
    assert styles[:3] == ["line-through", "dotted", "wavy"]
    wanted = page.run("return document.querySelector('.row .sub').dataset.wanted")
    assert styles[3] == f'"{wanted}"'


def test_filters(page):
    assert status(page) == "1 to 25 of 60"
    choose(page, "[data-filter='2']", "worse")
    assert shown(page) == [row["row_id"] for row in ROWS if row["row_id"].startswith("worse")]
    choose(page, "[data-filter='3']", "novelty")
    both = [row["row_id"] for row in ROWS if row["row_id"].startswith("worse") and row["partition"] == "novelty"]
    assert shown(page) == both and f"{len(both)} found, of 60" in status(page)
    page.run("document.getElementById('tools').reset()")
    page.until("return document.getElementById('shown').textContent === '1 to 25 of 60'")
    choose(page, "[data-filter='8']", "reject")
    assert shown(page) == [ROWS[7]["row_id"]]


def test_search_by_id_and_by_text(page):
    choose(page, "#find", "SAME-0")
    assert shown(page) == ["same-02", "same-07"]
    choose(page, "#find", "ߘߋ߲ ߓߏ߲")
    assert len(shown(page)) == 12 and all(each.startswith("same") for each in shown(page))
    choose(page, "#find", "nowhere")
    assert shown(page) == [] and status(page) == "none of 60 rows is like that"


def test_sorting(page):
    orders = page.run("return [...document.querySelectorAll('#sort option')].map((each) => each.textContent)")
    changes = [row["edits_after"]["codepoint"] - row["edits_before"]["codepoint"] for row in ROWS]
    choose(page, "#size", "100")
    choose(page, "#sort", str(orders.index("most improved")))
    assert shown(page)[0].startswith("hostile") and len(shown(page)) == 60
    choose(page, "#sort", str(orders.index("made worse most")))
    most = changes.index(max(changes))
    assert shown(page)[0].startswith(ROWS[most]["row_id"][:5])
    choose(page, "#sort", str(orders.index("id")))
    assert [each[:3] for each in shown(page)] == sorted(each[:3] for each in shown(page))


def test_turning_pages(page):
    page.run("document.querySelector('[data-turn=\"1\"]').click()")
    assert status(page) == "26 to 50 of 60"
    page.run("document.querySelectorAll('[data-turn=\"1\"]')[1].click()")
    assert status(page) == "51 to 60 of 60" and len(shown(page)) == 10
    assert page.run("return document.querySelector('[data-turn=\"1\"]').disabled")
    page.run("document.querySelector('[data-turn=\"-1\"]').click()")
    assert status(page) == "26 to 50 of 60"


def test_every_control_can_be_reached_by_keyboard(page):
    wanted = page.run(
        "window.reached = new Set(); addEventListener('focusin', (event) => reached.add(event.target));"
        "return [...document.querySelectorAll('a, summary, select, input, button, .wide')]"
        ".filter((each) => each.checkVisibility() && !each.disabled).length"
    )
    page.press("Tab")
    assert page.run("return document.activeElement.className") == "skip"
    page.press("Enter")
    assert page.run("return document.activeElement.id || location.hash") in ("rows", "#rows")
    page.run("document.activeElement.blur(); document.querySelector('.skip').focus()")
    for _ in range(wanted + 5):
        page.press("Tab")
    kinds = "'a, summary, select, input, button, .wide'"
    assert page.run(f"return [...reached].filter((each) => each.matches({kinds})).length") == wanted
    page.run("document.querySelector(\"[data-filter='2']\").focus()")
    page.press("Down")
    assert "found, of 60" in status(page)
    assert page.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_colours_by_choice(page):
    paper = "return getComputedStyle(document.body).backgroundColor"
    light = page.run(paper)
    choose(page, "#theme", "dark")
    page.until("return document.documentElement.dataset.drawn === 'dark'")
    assert page.run(paper) != light and page.complaints() == []
    choose(page, "#theme", "light")
    assert page.run(paper) == light


def test_thousands_of_rows_stay_usable(browser, tmp_path):
    """As many as two files of real rows have; what is in the page at a time does not grow with them."""
    rows = [
        RowView(
            f"row-{number}", number, [TextLine("reference", ["ߞߊ߬ ߕߊ߯"]),
                TextLine("recognized", text_diff.diff_segments("ߞߊ ߕߊ߯", "ߞߊ߬ ߕߊ߯"))],
            "worse" if number % 3 else "improved", "stable", "nko", 1, 2, 7, rtl=True,
        )
        for number in range(5811)
    ]  # fmt: skip
    html_writer.write_page(Page("many", "Evaluation", rows=rows), tmp_path / "many.html")
    browser.open(tmp_path / "many.html")
    browser.until("return document.querySelectorAll('.row').length === 25")
    assert status(browser) == "1 to 25 of 5811"
    choose(browser, "#find", "row-5810")
    assert shown(browser) == ["row-5810"]
    choose(browser, "#find", "")
    choose(browser, "[data-filter='2']", "improved")
    assert status(browser) == "1 to 25 of 1937 found, of 5811"
    assert browser.run("return document.querySelectorAll('*').length") < 1000
