"""Console text of acoustic runs: lines of the plan, of the test, and of `thunder asr eval`."""

from __future__ import annotations

from typing import Any


def plan_rows(facts: dict[str, Any], settings: dict[str, Any]) -> list[tuple[str, str]]:
    """What there is to say of a plan of `thunder asr train`."""
    recipe = facts["recipe"]
    rows = [
        (
            "features",
            f"{recipe['kind']}, width {facts['width']}, subsampled by {recipe['subsample']} ({recipe['how']})",
        ),
        ("head", f"{settings['head']}, mode {facts['mode']}, {settings['script']} labels"),
        ("rows", ", ".join(f"{facts[f'{part}_rows']} {part}" for part in ("train", "valid", "test"))),
    ]
    rows += [("split", how) for how in facts["split"]]
    if speakers := facts["speakers_in_several_parts"]:
        rows.append(("split", f"speakers in several parts, as you named them: {', '.join(speakers[:8])}"))
    for why, left in facts["left_out"].items():
        if left["rows"]:
            rows.append(("left out", f"{left['rows']} utterances {why}: {', '.join(left['ids'][:5])}"))
    if (crowded := facts["test_rows_without_room"])["rows"]:
        rows.append(("test", f"{crowded['rows']} utterances have more labels than frames: {crowded['ids'][0]} ..."))
    return rows


def format_test(test: dict[str, Any]) -> str:
    """The result of a test in a line."""
    if not test["rows"]:
        return "no utterance to test"
    rates = f"CER {test['cer']:.4f}, WER {test['wer']:.4f} on {test['rows']} utterances"
    moved = f"; fast weights moved by {test['ttt']['drift_mean']:.3g}" if "ttt" in test else ""
    return f"test {rates}; {test['exact']} exact, {test['empty']} empty{moved}"
