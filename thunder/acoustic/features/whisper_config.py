"""The sizes of a Whisper encoder, from the config.json of a local folder; nothing here needs MLX."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thunder.errors import ModelError, combined_error

POSITIONS = 1500  # frames of 20 ms in 30 s
LOGMEL_HINT = "or --features logmel, which needs no weights"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class EncoderSizes:
    """n_mels: bands of the input. width: D. inner: width of the MLP."""

    n_mels: int
    width: int
    layers: int
    heads: int
    inner: int


def read_sizes(folder: Path) -> EncoderSizes:
    """Sizes from a config.json in the format of Hugging Face or mlx-whisper.

    Raises ModelError if the folder is missing (hub names are not resolved) or its config is invalid.
    """
    path = folder / "config.json"
    if not folder.is_dir():
        raise _no_folder(folder)
    try:
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(
            f"{path}: {error.strerror}", f"give a folder with config.json and weights; {LOGMEL_HINT}"
        ) from None
    except ValueError as error:
        raise ModelError(f"{path}: damaged: {error}", "copy or download the model again") from None
    if isinstance(config, dict) and "d_model" in config:
        return _checked(path, config, _HUGGING_FACE)
    if isinstance(config, dict) and "n_audio_state" in config:
        return _checked(path, config | {"inner": _whole_number(config["n_audio_state"]) * 4}, _MLX)
    raise ModelError(
        f"{path}: is not the config of a Whisper model: it has neither 'd_model' nor 'n_audio_state'",
        "give a Whisper model",
    )


# names of n_mels, width, layers, heads, inner, and the number of positions
_HUGGING_FACE = (
    "num_mel_bins", "d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "max_source_positions"
)  # fmt: skip
_MLX = ("n_mels", "n_audio_state", "n_audio_layer", "n_audio_head", "inner", "n_audio_ctx")


def _checked(path: Path, config: dict[str, Any], names: tuple[str, ...]) -> EncoderSizes:
    faults = [
        f"'{name}' is {config.get(name)!r}, expected a whole number above 0"
        for name in names
        if _whole_number(config.get(name)) < 1
    ]
    if config.get("model_type", "whisper") != "whisper":
        faults.append(f"'model_type' is {config['model_type']!r}, expected 'whisper'")
    if config.get("activation_function", "gelu") != "gelu":
        faults.append(f"'activation_function' is {config['activation_function']!r}, expected 'gelu'")
    if config.get("scale_embedding"):
        faults.append("'scale_embedding' is true, which no Whisper encoder has")
    if config.get("quantization"):
        faults.append("its weights are quantized; the encoder takes fp32, fp16 or bf16")
    if not faults:
        n_mels, width, layers, heads, inner, positions = (_whole_number(config[name]) for name in names)
        if positions != POSITIONS:
            faults.append(f"'{names[-1]}' is {positions}, expected {POSITIONS}: 30 s of audio")
        if width % heads or width % 2:
            faults.append(f"'{names[1]}' {width} cannot be divided into {heads} heads, or by 2")
        if not faults:
            return EncoderSizes(n_mels, width, layers, heads, inner)
    raise combined_error(ModelError, f"{path} cannot be used:", faults, f"give a Whisper model; {LOGMEL_HINT}")


def _whole_number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _no_folder(folder: Path) -> ModelError:
    name = str(folder)
    if _REPOSITORY.fullmatch(name) and not folder.parent.is_dir():
        return ModelError(
            f"'{name}' is not a folder here; feature extraction does not download models from the hub",
            f"on a machine with network access, `hf download {name} config.json model.safetensors` prints the folder "
            f"for --model; {LOGMEL_HINT}",
        )
    return ModelError(
        f"{folder}: there is no such folder", f"give a folder with config.json and weights; {LOGMEL_HINT}"
    )
