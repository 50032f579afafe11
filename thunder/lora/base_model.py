"""Find base models on disk or in the Hugging Face cache, check them, compute their digest and load them."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.errors import ModelError
from thunder.lora.lora_settings import EMBEDDED_MODEL

_WEIGHT_FILES = "model*.safetensors"
_INDEX = "model.safetensors.index.json"
GENERATION = "generation_config.json"
# besides the weights, the files that decide the tokens of a text and the end of an answer
_SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
)


def find_base_model(model: str | None) -> Path:
    """The folder of a base model: the shipped one for None, a folder, or a Hugging Face repository, cached or fetched.

    Raises ModelError where it does not exist and cannot be fetched; never falls back to another model.
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
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]
    try:
        return Path(snapshot_download(repository, allow_patterns=patterns, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    except HFValidationError:
        raise ModelError(
            f"{repository}: neither a folder that exists nor the id of a repository",
            fix="give an existing folder, or a repository id such as mlx-community/gemma-4-e2b-4bit",
        ) from None
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
    try:
        faults += [
            f"{folder / name}: named by the index, missing"
            for name in _named_by_index(folder)
            if not (folder / name).is_file()
        ]
    except ModelError as error:
        faults.append(error.message)
    for path in files:
        try:
            length, expected = path.stat().st_size, safetensors_length(path)
        except (OSError, ValueError, LookupError, struct.error, TypeError, RecursionError) as error:
            faults.append(f"{path}: its header cannot be read ({error})")
            continue
        if length != expected:
            faults.append(f"{path}: {length} bytes, but its header speaks of {expected}: truncated or changed")
    if faults:
        raise ModelError(
            "the model's weights cannot be used:\n  " + "\n  ".join(faults), fix="copy or download the model again"
        )
    return files


def _named_by_index(folder: Path) -> list[str]:
    """The weight files that a model's index names; none where it has no index."""
    if not (folder / _INDEX).is_file():
        return []
    named = _json_object(folder / _INDEX).get("weight_map", {})
    if not isinstance(named, dict):
        raise _damaged(folder / _INDEX, "its 'weight_map' is not an object")
    return sorted({str(name) for name in named.values()})


def safetensors_length(path: Path) -> int:
    """Bytes that a safetensors file must have according to its header."""
    with path.open("rb") as stream:
        (header_length,) = struct.unpack("<Q", stream.read(8))
        if header_length > path.stat().st_size:
            raise ValueError(f"a header of {header_length} bytes in a file of {path.stat().st_size}")
        header = json.loads(stream.read(header_length))
    if not isinstance(header, dict):
        raise ValueError("not a JSON object")
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return 8 + header_length + max(ends, default=0)


def base_digest(folder: Path, cache: Path | None = None) -> str:
    """SHA-256 over the model's weights, config, tokenizer and chat template: all files that can change an answer.

    cache: a JSON file of digests by path, size and time of change, since reading gigabytes takes long. It only saves
    time: one that cannot be read or written is ignored.

    Raises ModelError that names the file which is damaged or cannot be read.
    """
    known = _read_digest_cache(cache) if cache else {}
    digests = []
    for path in [*weight_files(folder), *(folder / name for name in _SMALL_FILES)]:
        if not path.is_file():
            continue
        try:
            stat = path.resolve().stat()
            key = f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
            if key not in known:
                known[key] = digest.sha256_file(path)
        except OSError as error:
            raise _damaged(path, error.strerror or str(error)) from None
        digests.append([path.name, known[key]])
    if cache:
        with suppress(OSError):
            cache.parent.mkdir(parents=True, exist_ok=True)
            digest.write_json(cache, known)
    return digest.sha256_json(digests)


def _read_digest_cache(cache: Path) -> dict[str, str]:
    """The digests that earlier runs cached; empty where the file is absent, unreadable or damaged."""
    try:
        known = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def digest_cache_path(environ: Mapping[str, str] = os.environ) -> Path:
    """The file that caches digests of large files."""
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thunder" / "digests.json"


def end_token_ids(folder: Path) -> list[int]:
    """The tokens that end an answer, as the model's own files name them.

    Raises ModelError as `read_model_config` does.
    """
    ends = read_model_config(folder).get("eos_token_id", [])
    return [end for end in (ends if isinstance(ends, list) else [ends]) if isinstance(end, int)]


def generation_config_with_ends(folder: Path, ends: Iterable[int]) -> dict[str, Any]:
    """The content of a model's generation_config.json, with these tokens that end an answer.

    Raises ModelError where the file is damaged.
    """
    path = folder / GENERATION
    return (_json_object(path) if path.is_file() else {}) | {"eos_token_id": sorted(ends)}


def read_model_config(folder: Path) -> dict[str, Any]:
    """The model's config.json, with `eos_token_id` of generation_config.json where that has one, as in mlx_lm.

    Raises ModelError where config.json is missing, and where either is not JSON or not an object.
    """
    config = _json_object(folder / "config.json")
    if not isinstance(config.get("text_config", {}), dict):
        raise _damaged(folder / "config.json", "its 'text_config' is not an object")
    generation = folder / GENERATION
    if generation.is_file() and (ends := _json_object(generation).get("eos_token_id")):
        config["eos_token_id"] = ends
    return config


def _json_object(path: Path) -> dict[str, Any]:
    """The JSON object in one of a model's files."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from None
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"not JSON: {error}") from None
    if not isinstance(content, dict):
        raise _damaged(path, "not a JSON object")
    return content


def _damaged(path: Path, reason: str) -> ModelError:
    return ModelError(f"{path}: {reason}", fix="copy or download the model again")


def load_base_model(folder: Path) -> Any:
    """The model in memory, evaluated, in evaluation mode.

    Raises ModelError where weights are damaged, do not fit the architecture, or mlx_lm does not know it.
    """
    import mlx_lm.utils

    weight_files(folder)
    read_model_config(folder)
    try:
        mlx_lm.utils.maybe_set_recommended_wired_limit()
        model, _ = mlx_lm.utils.load_model(folder)
    except (ValueError, FileNotFoundError, RuntimeError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder}: mlx_lm cannot load it: {error}", fix="see that the folder is a whole mlx-lm model"
        ) from None
    return model
