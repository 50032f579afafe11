"""Load the engines that settings name: find models and adapters, check that they fit, and load them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from thunder.errors import ModelError
from thunder.evaluation.cases import EvaluationSet
from thunder.evaluation.engines import FileEngine, IdentityEngine, OracleEngine, ProposalEngine
from thunder.evaluation.evaluation_settings import EvalSettings
from thunder.lora import adapter_files, base_model
from thunder.lora.lora_settings import EMBEDDED_MODEL
from thunder.lora.prompts.load_prompts import load_prompt_format

if TYPE_CHECKING:
    from thunder.evaluation.decoding.model_engine import ModelEngine


def load_engines(settings: EvalSettings, cases: EvaluationSet) -> tuple[ProposalEngine, ProposalEngine | None]:
    """The engine that the settings name, and the base beside it where the settings ask for it.

    Raises ModelError where a model or an adapter cannot be used, CorpusError where a file of proposals cannot.
    """
    kind, _, path = settings.engine.partition(":")
    if kind == "identity":
        return IdentityEngine(), None
    if kind == "oracle":
        return OracleEngine(), None
    if kind == "file":
        return FileEngine(Path(path).expanduser(), cases.all_ids), None
    return _load_from_settings(settings)


def _load_from_settings(settings: EvalSettings) -> tuple[ProposalEngine, ProposalEngine | None]:
    both = load_model_engines(
        settings.model,
        settings.adapter_path,
        batch_size=settings.batch_size,
        chunk_words=settings.chunk_words,
        min_margin=settings.min_margin,
        change_margin=settings.change_margin,
        change_edits=settings.change_edits,
    )
    return both if settings.compare != "none" else (both[0], None)


def recorded_base(adapter_path: str | None) -> str | None:
    """The base that an adapter names, as --model takes it; None stands for the shipped one.

    Raises ModelError where the folder is no adapter, or names no base.
    """
    if adapter_path is None:
        return None
    folder = adapter_files.find_adapter(adapter_path)
    config = adapter_files.read_adapter_config(folder)
    own = config.get("thunder")
    name = own.get("model") if isinstance(own, dict) else config.get("model")
    if name is None:
        raise ModelError(f"{folder}: it names no base model", fix="--model FOLDER")
    return None if name == EMBEDDED_MODEL.name else str(name)


def load_model_engines(
    model_name: str | None, adapter_path: str | None, **how: Any
) -> tuple[ModelEngine, ModelEngine | None]:
    """The engine of a model with its adapter, and of the base alone where there is an adapter; both share weights.

    how: batch_size, chunk_words, min_margin, change_margin, change_edits, margins and prefix_cache, as ModelEngine
    takes them.
    Raises ModelError where the model or the adapter cannot be used.
    """
    from thunder.evaluation.decoding import batch_check  # MLX, which the other engines do without
    from thunder.evaluation.decoding.model_engine import BATCH, ModelEngine
    from thunder.lora import adapters

    base = base_model.find_base_model(model_name)
    base_sha256 = base_model.base_digest(base, base_model.digest_cache_path())
    fingerprint: dict[str, Any] = {"base_sha256": base_sha256, "adapter_sha256": None}
    adapter = adapter_files.find_adapter(adapter_path) if adapter_path else None
    if adapter:
        adapter_files.check_adapter_base(adapter, base_sha256, base)
        fingerprint["adapter_sha256"] = adapter_files.adapter_sha256(adapter)
    prompts = load_prompt_format(base, adapter)
    loaded = base_model.load_base_model(base)
    if adapter:
        fingerprint["adapter_does_nothing"] = not adapters.attach_adapter(loaded, adapter)

    how["batch_size"], note = batch_check.usable_batch_size(loaded, how.get("batch_size", BATCH))
    fingerprint |= {"batches": note} if note else {}

    def engine(base_only: bool) -> ModelEngine:
        return ModelEngine(loaded, prompts, base_only=base_only, fingerprint=fingerprint, **how)

    return engine(False), engine(True) if adapter else None
