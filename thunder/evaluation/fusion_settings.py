"""Options of `thunder fuse`; nothing here needs MLX."""

from __future__ import annotations

from thunder.config import Settings, option

WHAT, HOW, OUTPUT = "Adapter and base", "Fusion and its measurement", "Output"


class FusionSettings(Settings):
    """Options of `thunder fuse`: an adapter and its base as one model, measured on rows before it is kept."""

    adapter_path: str = option(..., "Folder of the adapter.", aliases=["adapter"], panel=WHAT)
    model: str | None = option(
        None, "Folder or Hugging Face repository of the base (default: the one that the adapter names).", panel=WHAT
    )
    save_path: str = option("fused_model", "Folder to write the model to, as in mlx_lm.", panel=OUTPUT)
    dequantize: bool = option(
        True,
        "Write 16 or 32 bit weights. --no-dequantize keeps the base's quantization, which rounds small changes away.",
        aliases=["de-quantize"],
        panel=HOW,
    )
    rows: str | None = option(
        None, "Rows to measure on (JSONL; default: the test rows of the adapter's run).", panel=HOW
    )
    limit: int = option(200, "Measure on only this many rows, from the first; 0 = all.", panel=HOW, ge=0)
    batch_size: int = option(16, "Rows decoded at once.", panel=HOW, ge=1)
    max_gain_loss: float = option(
        0.05, "Refuse a model that loses more than this share of the adapter's gain.", panel=HOW, ge=0, le=1
    )
    accept_loss: bool = option(False, "Keep the model whatever it loses.", panel=HOW)
