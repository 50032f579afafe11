"""Write the README of a corpus folder and the files of its error model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thunder.corpora.builders.corpus_folder import CONFUSIONS, PICTURE
from thunder.corpora.builders.totals import PartTotals
from thunder.corpora.channels.confusions import confusion_picture, confusion_table, confusions_by_class
from thunder.corpora.channels.error_channel import ErrorChannel


def error_model_files(channel: ErrorChannel | None) -> dict[str, str]:
    """Return the error model as `confusions.json`, which `--channel` takes, and its picture; empty without one."""
    return {} if channel is None else {CONFUSIONS: channel.to_json(), PICTURE: confusion_picture(channel)}


def corpus_readme(manifest: Mapping[str, Any], totals: Mapping[str, PartTotals]) -> str:
    """Return README.md of a corpus, from its manifest and the totals of its parts."""
    synthetic = "synthetic" in manifest["builder"]
    lines = [
        "# Synthetic correction rows" if synthetic else "# Correction rows",
        "",
        f"Made by `{manifest['builder']}`; the same command makes the same bytes. Each row asks to correct `asr_text`",
        "into `reference_text`, as chat messages; `origin` says whether it is real, an identity row (nothing to",
        "repair) or synthetic, and `evidence_class` what a measurement on it is worth. No reference text stands in two",
        "files. `manifest.json` has digests, settings and counts; `thunder corpus verify` checks the folder by it.",
        "",
        "| file | rows | without error | CER | by grapheme | without tones | WER |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for part, total in totals.items():
        rates = " | ".join("-" if rate is None else f"{rate:.4f}" for rate in total.errors.rates().values())
        if total.rows:
            lines.append(f"| {part}.jsonl | {total.rows} | {total.exact} | {rates} |")
    lines += ["", "## Rows by origin, evidence class, partition and script", ""]
    for part, total in totals.items():
        counts = total.as_dict()
        kinds = ("origin", "evidence_class", "partition", "script")
        summary = "; ".join(", ".join(f"{value} {times}" for value, times in counts[kind].items()) for kind in kinds)
        if total.rows:
            lines.append(f"- {part}: {summary}")
    lines += ["", "## Sources", ""]
    lines += [
        f"- `{source['name']}`: {source['rows']} rows ({source['form']}), sha256 `{source['sha256']}`"
        for source in manifest["sources"]
    ] or ["- none: sentences of the sample corpus's grammar"]
    for heading, key in (("Left out", "left_out"), ("Worth knowing", "notes")):
        if manifest[key]:
            lines += ["", f"## {heading}", "", *(f"- {reason}: {times}" for reason, times in manifest[key].items())]
    return "\n".join([*lines, *_errors(manifest)]) + "\n"


def _errors(manifest: Mapping[str, Any]) -> list[str]:
    channel = manifest["channel"]
    if channel is None:
        return []
    lines = ["", "## Errors", "", f"The error model is **{channel['name']}**"]
    if "pairs" in channel:
        lines[-1] += f": {channel['edits']} edits in {channel['pairs']} training rows (CER {channel['cer']:.4f})"
    return [*lines, f"(`{CONFUSIONS}`).", "", f"![how often which character becomes which]({PICTURE})"]


def error_classes(channel: ErrorChannel) -> dict[str, Any]:
    """Return the classes of error and the most frequent confusions, for the manifest."""
    confusions = confusion_table(channel)
    return {"classes": confusions_by_class(confusions), "most_frequent": [one.as_dict() for one in confusions[:30]]}
