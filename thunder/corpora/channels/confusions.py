"""Show an error channel to people: confusions with their counts, as a table and as a picture."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass
from html import escape
from typing import Any

from thunder.corpora.channels.error_channel import ErrorChannel
from thunder.text.alphabet import CONSONANTS, NA_WOLOSO, NASAL, NYA_WOLOSO, TONES, VOWELS, character_kind

CLASSES = {
    "tone mark lost": "#b3541e",
    "tone mark added": "#d98a3d",
    "tone mark swapped": "#8c3b12",
    "nasal dot lost or added": "#7a5195",
    "words merged": "#1f6f8b",
    "word split": "#58a4b0",
    "letter swapped": "#2f5d3a",
    "letter lost": "#5d8c4a",
    "letter added": "#94b86a",
    "repetition": "#a8324a",
    "other": "#6b6b6b",
}
DOTTED_CIRCLE, SPACE, NOTHING, ARROW = "\u25cc", "\u2423", "\u2205", "\u2192"
WIDTH, LINE, BAR_LEFT, BAR_RIGHT = 940, 30, 470, 850
FONTS = "'Noto Sans NKo','Ebrima','Kigelia','DejaVu Sans',sans-serif"
SANS = "system-ui,'Segoe UI','Noto Sans','DejaVu Sans',sans-serif"


@dataclass(frozen=True)
class CountedConfusion:
    """A confusion: the reference text (empty for an insertion), the recognized text (empty for a loss), the count."""

    wanted: str
    heard: str
    times: int
    kind: str

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON types."""
        return {"wanted": self.wanted, "heard": self.heard, "times": self.times, "kind": self.kind}


def confusion_table(channel: ErrorChannel) -> list[CountedConfusion]:
    """Return all confusions of single code points, insertions and repetitions, most frequent first."""
    confusions = [
        CountedConfusion(wanted, heard, times, _class(wanted, heard))
        for wanted, row in channel.changes.items()
        if len(wanted) == 1
        for heard, times in row.items()
        if heard != wanted and times
    ]
    # a learned channel has every insertion in the smallest context, a hand-written one the same counts in each larger
    inserted = {text: times for text, times in channel.insertions.get("", {}).items() if text}
    if not inserted:
        for row in channel.insertions.values():
            inserted |= {text: max(times, inserted.get(text, 0)) for text, times in row.items() if text}
    confusions += [CountedConfusion("", text, times, _class("", text)) for text, times in inserted.items()]
    repeated = sum(channel.loops.values())
    if repeated:
        confusions.append(CountedConfusion("", "...", repeated, "repetition"))
    return sorted(confusions, key=lambda one: (-one.times, one.wanted, one.heard))


def confusions_by_class(confusions: list[CountedConfusion]) -> dict[str, int]:
    """Return the count of each class of error, in the order of CLASSES; a run of losses counts where it begins."""
    totals = Counter[str]()
    for one in confusions:
        totals[one.kind] += one.times
    return {name: totals[name] for name in CLASSES if totals[name]}


def confusion_picture(channel: ErrorChannel, shown: int = 40) -> str:
    """Return the most frequent confusions as SVG: each sign isolated, marks on a dotted circle, bars by count."""
    confusions = confusion_table(channel)
    total = sum(one.times for one in confusions) or 1
    classes = confusions_by_class(confusions)
    top = confusions[:shown]
    height = 120 + LINE * (len(classes) + len(top)) + 90
    cer = channel.provenance.get("cer")
    title = f"{channel.name} error channel: {total} errors" + (
        f" in {channel.provenance['pairs']} pairs, CER {cer:.4f}" if cer is not None else ""
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-label="{escape(title)}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fdfcf9"/>',
        _words(30, 40, title, size=19, weight=600),
        _words(30, 64, "What stood in the reference, what was recognised for it, how often.", fill="#555"),
        _words(30, 98, "Kinds of error", size=15, weight=600),
    ]
    y = 126
    for name, times in classes.items():
        parts += [_words(60, y, name), *_bar(y, times, max(classes.values()), total, CLASSES[name])]
        y += LINE
    y += 24
    parts.append(_words(30, y, f"The {len(top)} most frequent confusions", size=15, weight=600))
    y += LINE
    for one in top:
        parts += [
            _sign(60, y, one.wanted),
            _words(92, y, ARROW, fill="#888"),
            _sign(135, y, one.heard),
            _words(175, y, f"{_name(one.wanted)} {ARROW} {_name(one.heard)}", size=13, fill="#333"),
            *_bar(y, one.times, top[0].times, total, CLASSES[one.kind]),
        ]
        y += LINE
    return "\n".join([*parts, "</svg>"]) + "\n"


def display_character(text: str) -> str:
    """Return a text as it can be displayed alone: a mark on a dotted circle, signs for a space and for nothing."""
    if not text:
        return NOTHING
    text = text.replace(" ", SPACE)
    return DOTTED_CIRCLE + text if character_kind(text[0]) == "mark" else text


def _class(wanted: str, heard: str) -> str:
    """Return the class in CLASSES of one confusion."""
    tones = set(TONES)
    if set(wanted) & tones or (not wanted and set(heard) & tones):
        return "tone mark swapped" if wanted and set(heard) & tones else f"tone mark {'lost' if wanted else 'added'}"
    if NASAL in (wanted, heard):
        return "nasal dot lost or added"
    if wanted == " " and not heard:
        return "words merged"
    if not wanted and heard == " ":
        return "word split"
    kinds = {character_kind(character) for character in wanted + heard}
    if "letter" not in kinds:
        return "other"
    return "letter swapped" if wanted and heard else "letter lost" if wanted else "letter added"


def _name(text: str) -> str:
    """Return the code points of a text by number and, for a single one, by name."""
    if not text:
        return "nothing"
    if text in (" ", "..."):
        return {" ": "space", "...": "the same again"}[text]
    if len(text) > 1:
        return " + ".join(map(_name, text)) if len(text) < 4 else f"{len(text)} characters"
    if sound := VOWELS.get(text) or CONSONANTS.get(text):
        return {NA_WOLOSO: "na woloso", NYA_WOLOSO: "nya woloso"}.get(text, sound)
    name = unicodedata.name(text, f"U+{ord(text):04X}").replace("NKO ", "").replace("COMBINING ", "")
    return name.replace("LATIN ", "").replace("SMALL ", "").lower().removeprefix("letter ")[:34]


def _words(x: int, y: int, text: str, size: int = 14, weight: int = 400, fill: str = "#222") -> str:
    return (
        f'<text x="{x}" y="{y}" font-family="{SANS}" font-size="{size}" font-weight="{weight}" fill="{fill}">'
        f"{escape(text)}</text>"
    )


def _sign(x: int, y: int, text: str) -> str:
    """Return one sign, centered, in its own text element, so that no neighbor changes its direction or joins it."""
    return (
        f'<text x="{x}" y="{y}" font-family="{FONTS}" font-size="22" text-anchor="middle" direction="rtl" '
        f'unicode-bidi="isolate" fill="#111">{escape(display_character(text)[:6])}</text>'
    )


def _bar(y: int, times: int, most: int, total: int, color: str) -> list[str]:
    width = max(1.0, (BAR_RIGHT - BAR_LEFT) * times / most)
    return [
        f'<rect x="{BAR_LEFT}" y="{y - 14}" width="{width:.1f}" height="18" rx="2" fill="{color}"/>',
        _words(round(BAR_LEFT + width) + 6, y, f"{times} ({times / total:.1%})", size=12, fill="#333"),
    ]
