"""Base models: found on disk or in the hub's cache, checked before they are loaded, and named by their digest."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.errors import ModelError
from thunder.lora.settings import EMBEDDED_MODEL

_WEIGHT_FILES = "model*.safetensors"


def find(model: str | None) -> Path:
    """The folder of a base model: the tiny one for None, a folder, or a hub repository that is or can be cached.

    Raises ModelError where it is not there and cannot be fetched; never falls back to another model.
    """
    if model is None:
        return EMBEDDED_MODEL
    path = Path(model).expanduser()
    if path.exists():
        if not (path / "config.json").is_file():
            raise ModelError(
                f"{path}: not a model folder: it has no config.json", fix="name a folder that mlx_lm can load"
            )
        return path.resolve()
    if model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise ModelError(
            f"{model}: no such folder",
            fix="give an existing folder, or a repository id such as mlx-community/gemma-4-e2b-4bit",
        )
    return _from_hub(model)


def _from_hub(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]
    try:
        return Path(snapshot_download(repository, allow_patterns=patterns, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    try:
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"model '{repository}' is not in the cache of this machine and could not be fetched: {cause}",
            fix=f"where there is a network: `hf download {repository}`; then copy it to every host: "
            f"`rsync -a ~/.cache/huggingface/hub/models--{repository.replace('/', '--')} HOST:.cache/huggingface/hub/`",
        ) from None


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model, each with its header and length checked.

    Raises ModelError that names each file which is missing, truncated or longer than its header says.
    """
    files = sorted(folder.glob(_WEIGHT_FILES))
    faults = []
    if not files:
        faults.append(f"{folder}: no {_WEIGHT_FILES}")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        named = {str(name) for name in json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values()}
        faults += [
            f"{folder / name}: named by the index, missing" for name in sorted(named) if not (folder / name).is_file()
        ]
    for path in files:
        try:
            expected = expected_length(path)
        except (ValueError, KeyError, struct.error, TypeError) as error:
            faults.append(f"{path}: its header cannot be read ({error})")
            continue
        if (length := path.stat().st_size) != expected:
            faults.append(f"{path}: {length} bytes, but its header speaks of {expected}: truncated or changed")
    if faults:
        raise ModelError(
            "the model's weights cannot be used:\n  " + "\n  ".join(faults), fix="copy or download the model again"
        )
    return files


def expected_length(path: Path) -> int:
    """Bytes that a safetensors file must have by its own header."""
    with path.open("rb") as stream:
        (header_length,) = struct.unpack("<Q", stream.read(8))
        if header_length > path.stat().st_size:
            raise ValueError(f"a header of {header_length} bytes in a file of {path.stat().st_size}")
        header = json.loads(stream.read(header_length))
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return 8 + header_length + max(ends, default=0)


def base_digest(folder: Path, cache: Path | None = None) -> str:
    """SHA-256 over the model's weights, config and tokenizer files.

    cache: a JSON file that remembers digests by path, size and time of change, since reading gigabytes takes long.
    """
    names = [
        *weight_files(folder),
        *(folder / name for name in ("config.json", "tokenizer.json", "tokenizer.model", "chat_template.jinja")),
    ]
    files = [path for path in names if path.is_file()]
    known: dict[str, str] = {}
    if cache is not None and cache.is_file():
        try:
            known = json.loads(cache.read_text(encoding="utf-8"))
        except ValueError:
            known = {}
    digests = []
    for path in files:
        stat = path.resolve().stat()
        key = f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
        if key not in known:
            known[key] = digest.of_file(path)
        digests.append([path.name, known[key]])
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        digest.write_json(cache, known)
    return digest.of_value(digests)


def digest_cache(environ: Mapping[str, str] = os.environ) -> Path:
    """Where digests of large files are remembered."""
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thunder" / "digests.json"


def read_config(folder: Path) -> dict[str, Any]:
    """The model's config.json.

    Raises ModelError where it is missing or is not JSON.
    """
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'}: {error}", fix="copy or download the model again") from None


def multiply_adds(config: dict[str, Any]) -> float | None:
    """Multiply-adds per token of a forward pass with its head, by the config; None where it does not say enough."""
    text = config.get("text_config", config)
    try:
        width, layers, vocabulary = text["hidden_size"], text["num_hidden_layers"], text["vocab_size"]
        heads, head, inner = (
            text["num_attention_heads"],
            text.get("head_dim", width // text["num_attention_heads"]),
            text["intermediate_size"],
        )
    except (KeyError, ZeroDivisionError):
        return None
    keys = text.get("num_key_value_heads", heads)
    shared = text.get("num_kv_shared_layers", 0)
    attention = 2 * width * heads * head
    key_values = 2 * width * keys * head * (layers - shared)
    wide = inner * (layers + (shared if text.get("use_double_wide_mlp") else 0))
    return float(width * vocabulary + attention * layers + key_values + 3 * width * wide)


def load(folder: Path) -> Any:
    """The model in memory, evaluated, in evaluation mode.

    Raises ModelError where weights are damaged, do not fit the architecture, or mlx_lm does not know it.
    """
    import mlx_lm.utils

    weight_files(folder)
    try:
        mlx_lm.utils.maybe_set_recommended_wired_limit()
        model, _ = mlx_lm.utils.load_model(folder)
    except (ValueError, FileNotFoundError, RuntimeError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder}: mlx_lm cannot load it: {error}", fix="see that the folder is a whole mlx-lm model"
        ) from None
    return model
