"""Check that the files of a finished run agree: rows, split, counts, results and partitions."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.config import load_yaml
from thunder.errors import ConfigError
from thunder.runs.bundles import scored_rows
from thunder.runs.bundles.scored_rows import PREDICTIONS, ScoredRow
from thunder.runs.records.run_record import CONFIG, ENVIRONMENT, METRICS, RESULTS
from thunder.text import row_fields
from thunder.text.distance import ErrorCount
from thunder.text.row_fields import EVERY_PARTITION

SPLIT, VOCAB, BY_PARTITION = "split.json", "vocab.json", "test_metrics_by_partition.json"
BEST = "best.safetensors"
RESOLVED = "config.resolved.json"
TOLERANCE = 1e-9  # largest absolute difference between a recorded and a recomputed rate
_EDITS = ("cer_edits", "edits")  # recorded files use either key


def json_object(path: Path, faults: list[str]) -> dict[str, Any]:
    """Read a file's JSON object; a fault is added to `faults`, and the result is then empty."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        faults.append(f"{path.name}: {error if isinstance(error, OSError) else 'not JSON'}")
        return {}
    if not isinstance(content, dict):
        faults.append(f"{path.name}: not a JSON object")
        return {}
    return content


def run_options(folder: Path) -> dict[str, Any]:
    """Return every option of a run with its value, from config.resolved.json or config.yaml; empty without either.

    Raises ConfigError where config.yaml cannot be read.
    """
    if (folder / RESOLVED).is_file():
        return json_object(folder / RESOLVED, [])
    return load_yaml(folder / CONFIG) if (folder / CONFIG).is_file() else {}


def unreadable_files(folder: Path) -> list[str]:
    """List the faults of the files that record how a run was made, where the run has them."""
    faults: list[str] = []
    for name in (ENVIRONMENT, RESOLVED):
        if (folder / name).is_file():
            json_object(folder / name, faults)
    try:
        run_options(folder)
    except ConfigError as error:
        faults.append(error.message.removeprefix(f"{folder}/"))
    return faults


def check_recognizer_run(folder: Path) -> tuple[list[ScoredRow], list[str]]:
    """Return the rows of a recognizer's run, and all faults of its files."""
    faults: list[str] = []
    rows = scored_rows.read_recognizer_rows(folder, faults)
    results = json_object(folder / RESULTS, faults)
    _against_split(folder, [row.name for row in rows], results, faults)
    if not json_object(folder / VOCAB, faults):
        faults.append(f"{VOCAB}: has no labels")
    test = results.get("test")
    if not isinstance(test, dict):
        test = results
    total = sum((row.counts[""] for row in rows), ErrorCount())
    _compare(RESULTS, test, {"cer": total.rate}, required=("cer",), faults=faults)
    counted = {"rows": len(rows), "reference_chars": total.reference_chars, _edits_key(test): total.edits}
    counted |= {"exact": sum(not row.counts[""].edits for row in rows)}
    counted |= {"empty": sum(not row.hypothesis for row in rows)}
    _compare(RESULTS, test, counted, required=(), faults=faults)
    if "wer" in test:
        _compare(RESULTS, test, {"wer": scored_rows.METRICS["wer"](rows)}, required=(), faults=faults)
    _partitions(json_object(folder / BY_PARTITION, faults), rows, total, faults)
    _best_loss(folder, results, faults)
    tested, best = results.get("checkpoint_sha256"), folder / BEST
    if tested and best.is_file() and digest.sha256_file(best) != tested:
        faults.append(f"{BEST}: not the tested weights: its SHA-256 is not 'checkpoint_sha256' of {RESULTS}")
    return rows, faults


def check_corrector_run(folder: Path) -> tuple[list[ScoredRow], list[str]]:
    """Return the rows of a corrector's run (LoRA; none where it was not tested), and all faults of its files."""
    faults: list[str] = []
    results = json_object(folder / RESULTS, faults)
    _best_loss(folder, results, faults)
    test = results.get("test")
    if test is None:
        return [], faults
    if not isinstance(test, dict) or not (folder / PREDICTIONS).is_file():
        return [], [*faults, f"{RESULTS}: has 'test', but there is no {PREDICTIONS} to recompute it from"]
    rows = scored_rows.read_corrector_rows(folder, faults)
    expected: dict[str, Any] = {
        f"cer_{name}": scored_rows.error_rate_of_rows(rows, name) for name in scored_rows.ANSWERS
    }
    change = [row.counts["after"].edits - row.counts["before"].edits for row in rows]
    expected |= {
        "rows": len(rows),
        "reference_chars": sum(row.counts["after"].reference_chars for row in rows),
        "improved": sum(edits < 0 for edits in change),
        "unchanged": sum(edits == 0 for edits in change),
        "worse": sum(edits > 0 for edits in change),
    }
    _compare(f"{RESULTS}, 'test'", test, expected, required=tuple(expected), faults=faults)
    return rows, faults


def check_evaluation(folder: Path) -> tuple[list[ScoredRow], list[str]]:
    """Return the rows of an evaluation (`thunder eval`), and all faults of its files."""
    faults: list[str] = []
    results = json_object(folder / RESULTS, faults)
    rows = scored_rows.read_evaluation_rows(folder, faults)
    # a row with an empty reference has no error rate; such rows are counted separately
    counted = [row for row in rows if row.reference]
    apart = results.get("empty_reference")
    if isinstance(apart, dict):
        _compare(
            f"{RESULTS}, 'empty_reference'",
            apart,
            {"rows": len(rows) - len(counted)},
            required=("rows",),
            faults=faults,
        )
    expected: dict[str, Any] = {
        f"cer_{name}": scored_rows.error_rate_of_rows(counted, name) for name in ("before", "after")
    }
    totals = {name: sum((row.counts[name] for row in counted), ErrorCount()) for name in ("before", "after")}
    expected |= {f"edits_{name}": total.edits for name, total in totals.items()}
    expected |= {"rows": len(counted), "reference_chars": totals["after"].reference_chars}
    _compare(RESULTS, results, expected, required=tuple(expected), faults=faults)
    files = results.get("files")
    for name, sha256 in files.items() if isinstance(files, dict) else ():
        if not (folder / name).is_file() or digest.sha256_file(folder / name) != sha256:
            faults.append(f"{name}: its SHA-256 is not the one in {RESULTS}")
    return rows, faults


def check_base_run(folder: Path) -> tuple[list[ScoredRow], list[str]]:
    """Return no rows for a pretrained base, and the faults of its results."""
    faults: list[str] = []
    _best_loss(folder, json_object(folder / RESULTS, faults), faults)
    return [], faults


def _against_split(folder: Path, names: list[str], results: Mapping[str, Any], faults: list[str]) -> None:
    """Check that row ids are those of the split's test part, less the rows that the results report as left out."""
    split = json_object(folder / SPLIT, faults)
    ids, sums = split.get("ids"), split.get("sha256")
    if not isinstance(ids, dict) or not isinstance(ids.get("test"), list):
        faults.append(f"{SPLIT}: has no list of ids of the test part")
        return
    for part, part_ids in ids.items():
        if isinstance(sums, dict) and part in sums and digest.sha256_json(part_ids) != sums[part]:
            faults.append(f"{SPLIT}: changed: the ids of {part} do not match their digest")
    test = set(ids["test"])
    if strangers := [name for name in names if name not in test]:
        faults.append(f"{PREDICTIONS}: row {strangers[0]!r} is not in the test part of {SPLIT}{_more(strangers)}")
    limit = _limit(folder) or len(test)
    usable = len(test) - _left_out(results, len(test), faults)
    if len(names) != min(limit, usable):
        missing = sorted(test - set(names))
        detail = f"; missing is {missing[0]!r}{_more(missing)}" if missing and limit >= len(test) == usable else ""
        faults.append(f"{PREDICTIONS}: {len(names)} rows, the split has {min(limit, usable)} to test{detail}")


def _left_out(results: Mapping[str, Any], test: int, faults: list[str]) -> int:
    """Return how many utterances of the test part the run reports as unusable; it has to give reasons."""
    data = results.get("data")
    usable = data.get("test_rows") if isinstance(data, dict) else None
    if not isinstance(usable, int) or not isinstance(data, dict):
        return 0
    reasons = data.get("left_out")
    counts = [entry.get("rows", 0) for entry in reasons.values()] if isinstance(reasons, dict) else []
    if not 0 <= test - usable <= sum(counts):
        faults.append(f"{RESULTS}: uses {usable} of {test} test rows in {SPLIT}, but 'left_out' counts {sum(counts)}")
    return max(0, test - usable)


def _limit(folder: Path) -> int:
    """Return the limit on test rows; 0 means all."""
    try:
        limit = run_options(folder).get("test_rows", 0)
    except ConfigError:  # `unreadable_files` reports it
        return 0
    return limit if isinstance(limit, int) and not isinstance(limit, bool) else 0


def _more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _edits_key(record: Mapping[str, Any]) -> str:
    return next((word for word in _EDITS if word in record), _EDITS[0])


def _compare(
    where: str, recorded: Mapping[str, Any], expected: Mapping[str, Any], *, required: Iterable[str], faults: list[str]
) -> None:
    """Add a fault for each stated number that differs from the count: integers exactly, rates to TOLERANCE."""
    missing = [key for key in required if key not in recorded]
    faults += [f"{where}: '{key}' is missing" for key in missing]
    for key in expected.keys() & recorded.keys():
        if not equal_within_tolerance(recorded[key], expected[key]):
            faults.append(f"{where}: '{key}' is {recorded[key]!r}, the recomputed value is {expected[key]!r}")


def equal_within_tolerance(recorded: Any, expected: Any) -> bool:
    """Return whether a stated number equals the computed one: integers exactly, others to TOLERANCE."""
    numbers = (int, float)
    if isinstance(recorded, bool) or not isinstance(recorded, numbers) or not isinstance(expected, numbers):
        return recorded is None and expected is None
    if isinstance(expected, int):
        return recorded == expected
    return math.isfinite(recorded) and abs(recorded - expected) <= TOLERANCE


def _partitions(content: Mapping[str, Any], rows: list[ScoredRow], total: ErrorCount, faults: list[str]) -> None:
    """Check that the counts of each partition match its rows, and that they add up to the total."""
    inner = content.get("partitions")
    table = inner if isinstance(inner, dict) else content
    table = {
        name: recorded
        for name, recorded in table.items()
        if isinstance(recorded, dict) and _edits_key(recorded) in recorded
    }
    known = {name: recorded for name, recorded in table.items() if name in EVERY_PARTITION}
    if not known:
        faults.append(f"{BY_PARTITION}: has no partition ({', '.join(EVERY_PARTITION)}) with '{_EDITS[0]}'")
        return
    _characters(content.get("characters"), total, faults)
    _lengths(content.get("lengths"), rows, faults)
    sums = ErrorCount()
    for name in EVERY_PARTITION:
        members = [row for row in rows if row.partition == name]
        count = sum((row.counts[""] for row in members), ErrorCount())
        recorded = known.get(name)
        if recorded is None:
            if members:
                faults.append(f"{BY_PARTITION}: '{name}' is missing, but {len(members)} rows belong to it")
            continue
        expected: dict[str, Any] = {
            "rows": len(members),
            "reference_chars": count.reference_chars,
            _edits_key(recorded): count.edits,
        }
        expected |= {"cer": count.rate} if count.reference_chars else {}
        _compare(f"{BY_PARTITION}, '{name}'", recorded, expected, required=("reference_chars",), faults=faults)
        sums += _recorded_count(recorded)
    if sums != total:
        faults.append(
            f"{BY_PARTITION}: partitions sum to {sums.edits} edits in {sums.reference_chars} code points, "
            f"the rows to {total.edits} in {total.reference_chars}"
        )


def _recorded_count(record: Mapping[str, Any]) -> ErrorCount:
    """Return the counts that a part states; a value that is not an integer counts as nothing, so the sum fails."""
    numbers = [record.get(key) for key in (_edits_key(record), "reference_chars")]
    edits, chars = (number if isinstance(number, int) else 0 for number in numbers)
    return ErrorCount(edits, chars)


def _characters(content: Any, total: ErrorCount, faults: list[str]) -> None:
    """Check that the character counts by partition, where a run has them, add up to the same totals."""
    if not isinstance(content, dict) or not content:
        return
    sums = sum((_recorded_count(record) for record in content.values() if isinstance(record, dict)), ErrorCount())
    if sums != total:
        faults.append(
            f"{BY_PARTITION}, 'characters': sum to {sums.edits} edits in {sums.reference_chars} code points, "
            f"the rows to {total.edits} in {total.reference_chars}"
        )


def _lengths(content: Any, rows: list[ScoredRow], faults: list[str]) -> None:
    """Check that the length bins, where a run has them, match its rows."""
    if not isinstance(content, dict):
        return
    for name in row_fields.LENGTH_BINS:
        members = [row.counts[""] for row in rows if row_fields.length_bin(row.counts[""].reference_chars) == name]
        count, recorded = sum(members, ErrorCount()), content.get(name)
        expected = {"rows": len(members), "reference_chars": count.reference_chars, "cer_edits": count.edits}
        if members or recorded is not None:
            recorded = recorded if isinstance(recorded, dict) else {}
            _compare(f"{BY_PARTITION}, '{name}'", recorded, expected, required=tuple(expected), faults=faults)


def _best_loss(folder: Path, results: Mapping[str, Any], faults: list[str]) -> None:
    """Check that the best validation loss in the results equals the one in the metrics at that step."""
    best, step = results.get("best_valid_loss"), results.get("best_step")
    if best is None or not (folder / METRICS).is_file():
        return
    logged = None
    for _, entry in scored_rows.json_lines(folder / METRICS, []):
        if entry.get("step") == step and "valid_loss" in entry:
            logged = entry["valid_loss"]  # after a resume a step can occur twice; the later line is valid
    if not equal_within_tolerance(best, logged):
        faults.append(f"{RESULTS}: 'best_valid_loss' is {best!r} at step {step}, {METRICS} has {logged!r} there")


Check = Callable[[Path], tuple[list[ScoredRow], list[str]]]
