"""Weights of a Whisper encoder from a local folder, as Hugging Face or mlx-whisper names them."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from thunder.acoustic.features.recipe import Precision
from thunder.acoustic.features.whisper_config import LOGMEL_HINT, read_sizes
from thunder.acoustic.features.whisper_encoder import WhisperEncoder
from thunder.errors import ModelError, ThunderError, combined_error

_INDEX = "model.safetensors.index.json"
_FILES = ("model.safetensors", "weights.safetensors", "weights.npz")
# computed if a file lacks them, as mlx-whisper's files do
_COMPUTED = {"embed_positions.weight"}
_MLX_NAMES = {
    r"^blocks\.": "layers.",
    r"\.attn\.query\.": ".self_attn.q_proj.",
    r"\.attn\.key\.": ".self_attn.k_proj.",
    r"\.attn\.value\.": ".self_attn.v_proj.",
    r"\.attn\.out\.": ".self_attn.out_proj.",
    r"\.attn_ln\.": ".self_attn_layer_norm.",
    r"\.mlp1\.": ".fc1.",
    r"\.mlp2\.": ".fc2.",
    r"\.mlp_ln\.": ".final_layer_norm.",
    r"^ln_post\.": "layer_norm.",
    r"^positional_embedding$": "embed_positions.weight",
}
_ENCODER = re.compile(r"^(?:[\w.]+\.)?encoder\.")
_PREFIXES = re.compile(r"^(?:base_model\.|module\.|model\.|whisper\.)+")
# first names of an encoder's tensors
_ROOTS = ("conv1.", "conv2.", "embed_positions.", "layers.", "layer_norm.", "blocks.", "ln_post.", "positional_emb")
# a table of positions that was rounded to float16 differs from the computed one by less than this
_POSITIONS_TOLERANCE = 1e-3


@dataclass(frozen=True)
class EncoderDigests:
    """computed: of the values that the encoder computes with, equal for all copies of one model.

    stored: of the tensors as the files hold them, which features made by earlier versions name.
    """

    computed: str
    stored: str


def load_encoder(folder: Path, precision: Precision = "float32") -> tuple[WhisperEncoder, EncoderDigests]:
    """The encoder in a folder, and the digests of its weights.

    Raises ModelError that lists every weight which is missing, has another shape, is not finite, or lies among the
    encoder's weights and is none of them.
    """
    encoder = WhisperEncoder(read_sizes(folder))
    stored, has_mlx_names = _rename_tensors(_tensors(folder))
    expected = dict(tree_flatten(encoder.parameters()))
    for name in ("conv1.weight", "conv2.weight"):
        if not has_mlx_names and name in stored and stored[name].ndim == 3:
            stored[name] = stored[name].transpose(0, 2, 1)  # [out, in, time] -> [out, time, in]
    if faults := _shape_faults(stored, expected):
        raise _unusable(folder, faults)
    stored_digest = _stored_digest(folder, stored)
    if faults := [f"{name} has values that are not finite" for name in stored if not _is_finite(stored[name])]:
        raise _unusable(folder, faults)
    dtype = mx.float16 if precision == "float16" else mx.float32
    values = {name: array.astype(dtype) for name, array in (expected | stored).items()}
    encoder.update(tree_unflatten(list(values.items())))
    mx.eval(encoder.parameters())
    return encoder.eval(), EncoderDigests(_computed_digest(expected | stored, expected), stored_digest)


def _shape_faults(stored: dict[str, mx.array], expected: dict[str, mx.array]) -> list[str]:
    faults = [f"{name} is missing" for name in expected if name not in stored and name not in _COMPUTED]
    faults += [
        f"{name} is in the weights, but not in an encoder with this config"
        + (": an adapter that is not merged?" if "lora_" in name or "base_layer" in name else "")
        for name in stored
        if name not in expected
    ]
    faults += [
        f"{name} is {list(stored[name].shape)}, config.json implies {list(array.shape)}"
        for name, array in expected.items()
        if name in stored and stored[name].shape != array.shape
    ]
    return faults + [
        f"{name} is of {stored[name].dtype}: quantized?"
        for name in expected
        if name in stored and not mx.issubdtype(stored[name].dtype, mx.floating)
    ]


def _unusable(folder: Path, faults: list[str]) -> ThunderError:
    fix = f"copy or download the model again; {LOGMEL_HINT}"
    return combined_error(ModelError, f"{folder}: the weights cannot be used:", faults, fix)


def _is_finite(array: mx.array) -> bool:
    return bool(mx.isfinite(array).all().item())


def _tensors(folder: Path) -> dict[str, mx.array]:
    """All tensors of a folder's weight files; safetensors are read lazily."""
    if (folder / _INDEX).is_file():
        try:
            names = sorted(set(json.loads((folder / _INDEX).read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{folder / _INDEX}: damaged: {error}", "copy or download the model again") from None
    else:
        names = [name for name in _FILES if (folder / name).is_file()][:1]
    if not names:
        known = ", ".join((*_FILES, _INDEX))
        raise ModelError(
            f"{folder}: has no weights (none of {known})", f"download model.safetensors into this folder; {LOGMEL_HINT}"
        )
    tensors: dict[str, mx.array] = {}
    for name in names:
        try:
            loaded = mx.load(str(folder / name))
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{folder / name}: {error}", "copy or download the model again") from None
        tensors.update(loaded)
    return tensors


def _rename_tensors(tensors: dict[str, mx.array]) -> tuple[dict[str, mx.array], bool]:
    """The encoder's tensors under the encoder's names, and whether the file used mlx-whisper's names.

    Tensors beside the encoder (a decoder, `projector`, `classifier`) are left out. `encoder.` may follow any prefix,
    such as `base_model.model.model.`; a file of an encoder alone may have no such name.
    """
    names = {name: name[found.end() :] for name in tensors if (found := _ENCODER.search(name))}
    if not names:
        short_names = {name: _PREFIXES.sub("", name) for name in tensors}
        names = {name: short for name, short in short_names.items() if short.startswith(_ROOTS)}
    has_mlx_names = any(short.startswith(("blocks.", "ln_post.")) for short in names.values())
    if has_mlx_names:
        names = {name: _renamed(short) for name, short in names.items()}
    return {short: tensors[name] for name, short in names.items()}, has_mlx_names


def _renamed(name: str) -> str:
    for pattern, replacement in _MLX_NAMES.items():
        name = re.sub(pattern, replacement, name)
    return name


def _computed_digest(values: dict[str, mx.array], expected: dict[str, mx.array]) -> str:
    """SHA-256 over names, shapes and values as float32; the recipe names the precision beside it.

    A table of positions counts only where it is not the sinusoids: some files hold it, others leave it to be computed.
    """
    sha256 = hashlib.sha256()
    for name, array in sorted(values.items()):
        if name in _COMPUTED and mx.abs(array - expected[name]).max().item() < _POSITIONS_TOLERANCE:
            continue
        sha256.update(f"{name} {list(array.shape)}\n".encode())
        sha256.update(np.array(array.astype(mx.float32)).tobytes())
    return sha256.hexdigest()


def _stored_digest(folder: Path, tensors: dict[str, mx.array]) -> str:
    """SHA-256 over names, types, shapes and bytes of the tensors. Raises ModelError if a file is truncated."""
    sha256 = hashlib.sha256()
    for name, array in sorted(tensors.items()):
        sha256.update(f"{name} {array.dtype} {list(array.shape)}\n".encode())
        try:
            mx.eval(array)
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{folder}: {name} cannot be read: {error}", "copy or download the model again") from None
        bits = array.view(mx.uint16) if array.dtype == mx.bfloat16 else array
        sha256.update(np.array(bits).tobytes())
    return sha256.hexdigest()
