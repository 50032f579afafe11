"""Fuse an adapter into its base, and measure on rows whether the fused model still does what the adapter does.

A quantized base rounds the fused weights again, so that a small adapter can be lost without an error.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.errors import ModelError, UsageError
from thunder.evaluation import cases as evaluated_cases
from thunder.evaluation import engine_setup
from thunder.evaluation.cases import Case
from thunder.evaluation.fusion_settings import FusionSettings
from thunder.lora import adapter_files, base_model
from thunder.text.distance import ErrorCount, count_errors

RECORD = "fusion.json"
TEST_PREDICTIONS = "test_predictions.jsonl"
CER_NOISE = 0.005  # a difference of rounding may change some answers


@dataclass(frozen=True)
class ModelMeasurement:
    """Of one model on the rows: nats per token of the references, and CER of its answers (None: no references)."""

    nats: float
    cer: float | None


@dataclass(frozen=True)
class FusionResult:
    """gain: nats per token that the adapter gains over its base. lost_share: the part of it that the fusion loses."""

    folder: Path
    rows: int
    base: ModelMeasurement
    adapter: ModelMeasurement
    fused: ModelMeasurement

    @property
    def gain(self) -> float:
        return self.base.nats - self.adapter.nats

    @property
    def lost_share(self) -> float | None:
        """None where the adapter gains nothing on these rows."""
        return (self.fused.nats - self.adapter.nats) / self.gain if self.gain > 0 else None

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        models = {name: asdict(getattr(self, name)) for name in ("base", "adapter", "fused")}
        return {
            "folder": str(self.folder),
            "rows": self.rows,
            "gain": self.gain,
            "lost_share": self.lost_share,
        } | models


def fuse_and_measure(settings: FusionSettings, say: Callable[[str], None] = lambda text: None) -> FusionResult:
    """Write the fused model where it keeps the adapter's gain; `say` is told of each stage.

    Raises UsageError where the folder exists or no rows are known, ModelError where base and adapter do not fit, and
    where the fused model loses more of the gain than `max_gain_loss`.
    """
    from thunder.lora import fused_model  # MLX

    target = Path(settings.save_path).expanduser()
    _check_free(target)
    adapter = adapter_files.find_adapter(settings.adapter_path)
    base = base_model.find_base_model(settings.model or engine_setup.recorded_base(settings.adapter_path))
    rows = _read_rows(settings, adapter)
    with_adapter, alone = engine_setup.load_model_engines(
        str(base), settings.adapter_path, batch_size=settings.batch_size
    )
    assert alone is not None
    say(f"measuring the base and the adapter on {len(rows)} rows")
    measured = [_measure(engine, rows) for engine in (alone, with_adapter)]
    target.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    temporary = holder / target.name
    try:
        say("fusing")
        origin = {"base_sha256": base_model.base_digest(base), "adapter_sha256": adapter_files.adapter_sha256(adapter)}
        fused_model.save_fused_model(
            temporary,
            fused_model.fuse_adapter(with_adapter.model, settings.dequantize),
            base,
            with_adapter.prompts,
            settings.dequantize,
            origin,
        )
        say("measuring the fused model")
        fused, _ = engine_setup.load_model_engines(str(temporary), None, batch_size=settings.batch_size)
        result = FusionResult(target, len(rows), *measured, _measure(fused, rows))
        _check(result, settings)
        digest.write_json(temporary / RECORD, origin | result.to_json())
        _check_free(target)  # another command may have made it in the meantime
        temporary.rename(target)
    finally:
        shutil.rmtree(holder, ignore_errors=True)
    return result


def _check_free(target: Path) -> None:
    if os.path.lexists(target):
        raise UsageError(f"--save-path {target}: it exists", fix="another folder, or remove it first")


def _read_rows(settings: FusionSettings, adapter: Path) -> list[Case]:
    """The rows with a reference; those of the run's own test are asked in the words of its training."""
    file = _rows_file(settings, adapter)
    rows = [row for row in evaluated_cases.read_cases(file, settings.limit).cases if row.reference.strip()]
    if not rows:
        raise UsageError(f"{file}: no row has a reference to measure on", fix="--rows FILE, with references")
    return rows if settings.rows else [replace(row, from_text=True) for row in rows]


def _rows_file(settings: FusionSettings, adapter: Path) -> Path:
    if settings.rows:
        return Path(settings.rows).expanduser()
    for folder in adapter.resolve().parents[:2]:
        if (folder / TEST_PREDICTIONS).is_file():
            return folder / TEST_PREDICTIONS
    raise UsageError(f"{adapter}: no run with test rows around it", fix="--rows FILE, rows that it was not trained on")


def _measure(engine: Any, rows: Sequence[Case]) -> ModelMeasurement:
    from thunder.evaluation.decoding.scoring import score_answers

    written = [engine.in_own_words(row) for row in rows]
    prompts = [engine.prompts.prompt(row.messages, row.fields.get("tools")) for row in written]
    answers = [engine.prompts.answer(prompt, row.reference) for prompt, row in zip(prompts, written, strict=True)]
    with engine.adapter_state():
        ids = [prompt.ids for prompt in prompts]
        totals = score_answers(engine.prefix, ids, answers, engine.prefix.covered_lengths(ids), engine.batch_size)
    texts = [proposal.text for proposal in engine.propose(written)]
    errors = sum(
        (count_errors(text.strip(), row.reference.strip()) for text, row in zip(texts, written, strict=True)),
        ErrorCount(),
    )
    return ModelMeasurement(-math.fsum(totals) / sum(map(len, answers)), errors.rate)


def _check(result: FusionResult, settings: FusionSettings) -> None:
    """Refuse a fused model that is worse than the adapter by more than the allowed share of the adapter's change."""
    if settings.accept_loss:
        return
    faults = []
    excess, allowed = result.fused.nats - result.adapter.nats, settings.max_gain_loss * max(abs(result.gain), 0.01)
    if not math.isfinite(excess) or excess > allowed:
        share = "" if result.lost_share is None else f": {result.lost_share:.0%} of what the adapter gains"
        faults.append(
            f"{result.base.nats:.4f} nats per token with the base, {result.adapter.nats:.4f} with the adapter, "
            f"{result.fused.nats:.4f} fused{share}"
        )
    base, adapter, fused = (each.cer or 0.0 for each in (result.base, result.adapter, result.fused))
    if fused - adapter > max(settings.max_gain_loss * abs(base - adapter), CER_NOISE):
        faults.append(f"CER {base:.4f} with the base, {adapter:.4f} with the adapter, {fused:.4f} fused")
    if faults:
        fix = "add --accept-loss to keep it"
        raise ModelError(
            f"the fused model loses more than {settings.max_gain_loss:.0%} of the adapter's gain on {result.rows} "
            f"rows: {'; '.join(faults)}",
            fix=fix if settings.dequantize else f"leave out --no-dequantize, or {fix}",
        )
