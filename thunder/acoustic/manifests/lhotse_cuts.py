"""Cuts of lhotse (MonoCut with its recording and supervisions) as rows that name a piece of a file."""

from __future__ import annotations

from typing import Any

from thunder.corpora.rows.jsonl_lines import LineFault

_NOT_READ = ("MixedCut", "MultiCut", "PaddingCut")


def is_cut(fields: dict[str, Any]) -> bool:
    """Whether a row is a cut of lhotse, or a recording or supervision of its separate manifests."""
    if fields.get("type") in (*_NOT_READ, "MonoCut"):
        return True
    return isinstance(fields.get("supervisions"), list) or isinstance(fields.get("sources"), list)


def rows_of_cut(cut: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for the cut, or for each of its supervisions if there are several. Raises LineFault."""
    if cut.get("type") in _NOT_READ:
        raise LineFault(f"is a {cut['type']} of lhotse; write its sound with `save_audios`, which gives MonoCuts")
    recording = cut if "sources" in cut else cut.get("recording")
    if not isinstance(recording, dict):
        raise LineFault("is a cut of lhotse without its recording; `lhotse cut simple` puts the recording into the cut")
    audio, supervisions = _source(recording), cut.get("supervisions") or []
    if not all(isinstance(supervision, dict) for supervision in supervisions):
        raise LineFault("'supervisions' holds something else than objects")
    whole = {"id": cut.get("id"), "audio": audio}
    if recording is not cut:
        whole |= {"offset": cut.get("start", 0.0), "duration": cut.get("duration")}
    if isinstance(cut.get("channel"), int) and len(recording["sources"][0].get("channels") or [0]) > 1:
        whole["channel"] = cut["channel"]
    if len(supervisions) <= 1:
        return [whole | _supervision_fields(supervisions[0] if supervisions else {})]
    return [
        whole | _supervision_fields(supervision)
        | {"id": supervision.get("id"), "offset": (cut.get("start") or 0.0) + (supervision.get("start") or 0.0),
           "duration": supervision.get("duration")}
        for supervision in supervisions
    ]  # fmt: skip


def _source(recording: dict[str, Any]) -> str:
    sources = recording.get("sources")
    if not isinstance(sources, list) or len(sources) != 1 or not isinstance(sources[0], dict):
        raise LineFault("its recording of lhotse has not one source")
    if sources[0].get("type") != "file" or not isinstance(sources[0].get("source"), str):
        raise LineFault(f"its recording of lhotse is of type {sources[0].get('type')!r}, expected 'file'")
    return sources[0]["source"]


def _supervision_fields(supervision: dict[str, Any]) -> dict[str, Any]:
    kept = {name: supervision[name] for name in ("text", "speaker", "language", "gender") if name in supervision}
    return kept | (supervision.get("custom") or {})
