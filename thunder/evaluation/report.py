"""An evaluation as one HTML page that needs nothing else: figures, tables, and rows with their differences marked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from thunder.evaluation import differences
from thunder.evaluation.flags import FLAGS
from thunder.evaluation.judge import final_text

SHOWN, CONFUSIONS = 15, 24
TABLES = {
    "partition": "By partition",
    "script": "By script",
    "length": "By length (code points of the reference)",
    "input_cer": "By the CER of the input",
}
STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1e; --paper: #fcfcfd; --soft: #6b6b76; --line: #d9d9e0;
  --lost: #a4262c; --lost-bg: #fbe3e4; --gain: #0b6a34; --gain-bg: #dcf3e4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8ec; --paper: #17171b; --soft: #9d9da8; --line: #3a3a43;
  --lost: #ff9a9f; --lost-bg: #4a1d20; --gain: #7fe0a5; --gain-bg: #12391f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, "Noto Sans", "Noto Sans NKo", "Ebrima", sans-serif; }
h1 { font-size: 1.5rem; margin: .5rem 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p, td, th { margin: .25rem 0; } .soft { color: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: .75rem; }
.card { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem; }
.card b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap;
  font-variant-numeric: tabular-nums; } th:first-child, td:first-child { text-align: left; }
.says td:last-child, .says th:last-child { text-align: left; white-space: normal; }
.letter { font-size: 1.4rem; line-height: 1; }
th { font-weight: 600; color: var(--soft); }
.row { border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .8rem; margin: .6rem 0; }
.text { font-size: 1.15rem; line-height: 1.9; overflow-wrap: anywhere; white-space: pre-wrap; }
.text small { display: block; font-size: .8rem; line-height: 1.3; color: var(--soft);
  direction: ltr; text-align: left; }
del { color: var(--lost); background: var(--lost-bg); text-decoration: line-through 1px; border-radius: .2rem; }
ins { color: var(--gain); background: var(--gain-bg); text-decoration: underline; border-radius: .2rem; }
.good { color: var(--gain); } .bad { color: var(--lost); }
"""


def html(rows: Sequence[dict[str, Any]], results: dict[str, Any]) -> str:
    """The page; rows as `judge` makes them, results as `summary` does with the ground of the evaluation."""
    counted = [row for row in rows if row["reference_units"]["codepoint"]]
    parts = [
        f"<h1>CER {rate(results['cer_before'])} → {rate(results['cer_after'])} on {results['rows']} rows</h1>",
        _ground(results),
        _cards(results),
        "<h2>Error rates</h2>",
        _units(results),
        _others(results),
        *(f"<h2>{title}</h2>" + _groups(results["by"][name]) for name, title in TABLES.items()),
        "<h2>What is wrong with proposals, whatever the reference says</h2>",
        _flags(results),
        "<h2>Letters taken for others, where their number changed most</h2>",
        _confusions(counted),
        *_examples("Most improved", sorted(counted, key=_gain)[:SHOWN], lambda gain: gain < 0),
        *_examples("Made worse", sorted(counted, key=lambda row: -_gain(row))[:SHOWN], lambda gain: gain > 0),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Evaluation: {results['rows']} rows</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def rate(value: float | None) -> str:
    """A rate with four digits, or a dash where there is none."""
    return "–" if value is None else f"{value:.4f}"


def interval(change: float | None, bounds: Sequence[float] | None) -> str:
    """A change with its interval, signed."""
    if change is None or bounds is None:
        return "–"
    return f"{change:+.4f} [{bounds[0]:+.4f}, {bounds[1]:+.4f}]"


def _ground(results: dict[str, Any]) -> str:
    said = {name: str(value) for name, value in results["ground"].items() if value not in (None, 0)}
    listed = ", ".join(
        f"{name.replace('_', ' ')} {value[:12] if name.endswith('sha256') else value}" for name, value in said.items()
    )
    evidence = ", ".join(f"{count} {name}" for name, count in results["evidence_class"].items())
    return f'<p class="soft">{escape(listed)}. Evidence: {escape(evidence or "no rows")}.</p>'


def _cards(results: dict[str, Any]) -> str:
    bound = f"of accepted proposals worse at most, 95 % sure ({results['worse']} of {results['accepted']} seen)"
    changed = f"of changed inputs worse at most ({results['worse']} of {results['changed']} seen)"
    cards = [
        (interval(results["cer_change"], results["cer_change_interval95"]), "change of CER, 95 % bootstrap over rows"),
        (f"{results['improved']} / {results['neutral']} / {results['worse']}", "improved / neutral / worse"),
        (f"{results['worse_upper95']:.1%}", bound),
        (f"{results['worse_upper95_of_changed']:.1%}", changed),
        (f"{results['exact_before']} → {results['exact_after']}", "rows without any edit"),
        (f"{rate(results['cer_blind'])} / {rate(results['cer_oracle'])}", "CER if all were accepted / only the better"),
    ]
    shown = "".join(f'<div class="card"><b>{escape(value)}</b>{escape(text)}</div>' for value, text in cards)
    return f'<div class="cards">{shown}</div>'


def _table(head: Sequence[str], lines: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table of texts that are HTML already; kind: a class of the style's."""
    top = "".join(f"<th>{each}</th>" for each in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in line) + "</tr>" for line in lines)
    return f'<div class="wide {kind}"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _units(results: dict[str, Any]) -> str:
    named = {
        "CER, code points": "cer_{}",
        "CER, graphemes": "cer_{}_grapheme",
        "CER, without tones": "cer_{}_toneless",
        "WER": "wer_{}",
    }
    return _table(
        ["", "before", "after", "change, 95 %"],
        (
            [
                title,
                rate(results[name.format("before")]),
                rate(results[name.format("after")]),
                interval(results[name.format("change")], results[f"{name.format('change')}_interval95"]),
            ]
            for title, name in named.items()
        ),
    )


def _others(results: dict[str, Any]) -> str:
    """The base beside the adapter, and rows without a reference, where there are any."""
    parts = []
    if "base" in results:
        compared = {"base": results["base"], "adapter": results, "base to adapter": results["adapter_over_base"]}
        parts.append("<h2>Base and adapter</h2>" + _groups(compared))
    silent = results["empty_reference"]
    if silent["rows"]:
        parts.append(
            f"<p>{silent['rows']} rows with an empty reference are counted apart: {silent['insertions_before']} "
            f"code points in the inputs, {silent['insertions_after']} after.</p>"
        )
    return "".join(parts)


def _groups(groups: dict[str, dict[str, Any]]) -> str:
    head = ["", "rows", "before", "after", "change, 95 %", "improved", "neutral", "worse", "worse at most"]
    return _table(
        head,
        (
            [
                escape(name),
                str(group["rows"]),
                rate(group["cer_before"]),
                rate(group["cer_after"]),
                interval(group["cer_change"], group["cer_change_interval95"]),
                *(str(group[count]) for count in ("improved", "neutral", "worse")),
                f"{group['worse_upper95']:.1%}",
            ]
            for name, group in groups.items()
        ),
    )


def _flags(results: dict[str, Any]) -> str:
    of_base = results.get("base", {}).get("flags")
    head = ["", "proposals", *(["the base's"] if of_base else []), "what it says"]
    return _table(
        head,
        (
            [name, str(results["flags"][name]), *([str(of_base[name])] if of_base else []), escape(says)]
            for name, says in FLAGS.items()
        ),
        kind="says",
    )


def _confusions(rows: Sequence[dict[str, Any]]) -> str:
    def cluster(text: str) -> str:
        return f'<span dir="auto" class="letter">{escape(differences.shown(text))}</span>'

    changed = [each for each in differences.confusions(rows) if each.before != each.after][:CONFUSIONS]
    lines = (
        [
            cluster(each.reference),
            cluster(each.hypothesis),
            str(each.before),
            str(each.after),
            f'<span class="{"good" if each.after < each.before else "bad"}">{each.after - each.before:+d}</span>',
        ]
        for each in changed
    )
    return _table(["wanted", "taken for", "before", "after", "change"], lines)


def _gain(row: dict[str, Any]) -> int:
    return row["edits_after"]["codepoint"] - row["edits_before"]["codepoint"]


def _examples(title: str, rows: Sequence[dict[str, Any]], belongs: Any) -> list[str]:
    chosen = [row for row in rows if belongs(_gain(row))]
    if not chosen:
        return [f"<h2>{title}</h2>", '<p class="soft">None.</p>']
    legend = '<p class="soft"><del>red</del> should not be there, <ins>green</ins> is missing.</p>'
    return [f"<h2>{title}</h2>", legend, *map(_example, chosen)]


def _example(row: dict[str, Any]) -> str:
    direction = "rtl" if row["script"] == "nko" else "ltr" if row["script"] == "latin" else "auto"
    reference = row["reference"].strip()

    def text(label: str, marked: str) -> str:
        return f'<div class="text" dir="{direction}"><small>{label}</small>{marked}</div>'

    before, after = (row[key]["codepoint"] for key in ("edits_before", "edits_after"))
    flags = f", {', '.join(row['flags'])}" if row["flags"] else ""
    return (
        f'<div class="row"><span class="soft">{escape(row["row_id"])}: {before} → {after} edits{flags}</span>'
        + text("input", differences.marked(row["input"].strip(), reference))
        + text("proposal", differences.marked(final_text(row).strip(), reference))
        + text("reference", escape(reference))
        + "</div>"
    )
