"""Check files of weights: whole, equal to the recorded digests, finite, and changed since an earlier checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from thunder import digest, tensor_digests
from thunder.errors import ArtifactError
from thunder.tensor_digests import StoredTensor
from thunder.training.checkpoints import checkpoint_manifest
from thunder.training.checkpoints.checkpoint_manifest import OPTIMIZER, WEIGHTS

DTYPE_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1,
    "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
_FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16}
_BF16_EXPONENT, _BF16_SIGN = np.uint16(0x7F80), np.uint16(0x8000)  # exponent all ones: infinity or NaN
_MOMENTS = (".m", ".v")  # AdamW's, after the parameter's name
NAMED = 5


@dataclass(frozen=True)
class WeightsCheck:
    """One check of one file: its subject, its outcome and a detail for people.

    A check that could not run is `skipped`, never `ok`.
    """

    file: str
    what: str
    state: Literal["ok", "fault", "skipped"]
    detail: str = ""

    def as_json(self) -> dict[str, str]:
        """The check as `thunder ckpt verify --json` prints it."""
        return {"file": self.file, "what": self.what, "state": self.state, "said": self.detail}


def check_weights_file(
    path: Path, recorded: Mapping[str, Any] | None = None, sha256: str | None = None
) -> list[WeightsCheck]:
    """Check one safetensors file. recorded: tensor -> {sha256, dtype, shape}; sha256: of the whole file."""
    try:
        tensors = tensor_digests.file_tensor_digests(path)
        layout = list(_layout(path))
    except (ValueError, OSError) as error:
        unread = [WeightsCheck(path.name, what, "skipped", "tensors cannot be read") for what in ("digests", "finite")]
        return [WeightsCheck(path.name, "whole", "fault", str(error)), *unread]
    checks = [_verdict(path.name, "whole", layout, f"{len(tensors)} tensors")]
    if recorded is None and sha256 is None:
        checks.append(WeightsCheck(path.name, "digests", "skipped", "no manifest speaks of it"))
    elif recorded is None:
        faults = [] if digest.sha256_file(path) == sha256 else ["its bytes are not the recorded ones"]
        checks.append(_verdict(path.name, "digests", faults, "the file as recorded; tensors are not recorded"))
    else:
        checks.append(_against(path, tensors, recorded, sha256))
    if layout:
        return [
            *checks,
            WeightsCheck(path.name, "finite", "skipped", "the tensors are not as the header describes them"),
        ]
    return [*checks, *_numbers(path)]


def _verdict(file: str, what: str, faults: Sequence[str], fine: str) -> WeightsCheck:
    """Ok, or a fault that names the first faults."""
    if not faults:
        return WeightsCheck(file, what, "ok", fine)
    more = f" and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
    return WeightsCheck(file, what, "fault", "; ".join(faults[:NAMED]) + more)


def _layout(path: Path) -> Iterator[str]:
    """Faults of a file whose bytes are not the tensors that its header describes, one after the other."""
    total = 0
    for each in tensor_digests.read_tensors(path):
        width = DTYPE_BYTES.get(each.dtype)
        if width is not None and math.prod(each.shape) * width != len(each.data):
            yield f"{each.name}: {len(each.data)} bytes are no {each.dtype} of shape {each.shape}"
        total += len(each.data)
    with path.open("rb") as stream:
        header = 8 + int.from_bytes(stream.read(8), "little")
    if (rest := path.stat().st_size - header - total) != 0:
        yield f"{abs(rest)} bytes {'too many' if rest > 0 else 'are missing'}"


def _against(path: Path, tensors: Mapping[str, Any], recorded: Mapping[str, Any], sha256: str | None) -> WeightsCheck:
    faults = []
    for name in sorted(tensors.keys() | recorded.keys()):
        expected, actual = recorded.get(name), tensors.get(name)
        if expected is None or actual is None:
            faults.append(f"{name}: {'not in the manifest' if expected is None else 'missing'}")
        elif expected["shape"] != actual["shape"]:
            faults.append(f"{name}: shape {actual['shape']}, recorded is {expected['shape']}")
        elif expected["dtype"] != actual["dtype"]:
            faults.append(f"{name}: {actual['dtype']}, recorded is {expected['dtype']}")
        elif expected["sha256"] != actual["sha256"]:
            faults.append(f"{name}: its bytes are not the recorded ones")
    if not faults and sha256 is not None and digest.sha256_file(path) != sha256:
        faults.append("its bytes outside of the tensors are not the recorded ones")
    return _verdict(path.name, "digests", faults, f"{len(tensors)} as recorded")


def _numbers(path: Path) -> list[WeightsCheck]:
    """Check that every number is finite; dtypes that cannot be read are named as skipped."""
    bad, unread = [], []
    for each in tensor_digests.read_tensors(path):
        if each.dtype == "BF16":
            bits = np.frombuffer(each.data, np.uint16)
            count = int(np.count_nonzero((bits & _BF16_EXPONENT) == _BF16_EXPONENT))
        elif each.dtype in _FLOATS:
            count = int(np.count_nonzero(~np.isfinite(np.frombuffer(each.data, _FLOATS[each.dtype]))))
        else:
            unread += [each.name] if each.dtype not in DTYPE_BYTES else []
            continue
        if count:
            bad.append(f"{each.name}: {count} NaN or infinite")
    checks = [_verdict(path.name, "finite", bad, "no NaN, no infinity")]
    if unread:
        checks.append(
            WeightsCheck(path.name, "finite", "skipped", f"kinds not known here: {', '.join(unread[:NAMED])}")
        )
    return checks


def check_checkpoint(folder: Path, previous: Path | None = None) -> list[WeightsCheck]:
    """Check a checkpoint folder by its manifest, and that its tensors changed since an earlier checkpoint."""
    try:
        content = checkpoint_manifest.read_checkpoint_manifest(folder)
    except ArtifactError as error:
        return [WeightsCheck(folder.name, "manifest", "fault", error.message)]
    checks = [WeightsCheck(folder.name, "manifest", "ok", f"step {content['step']}")]
    if folder.name.startswith("step-") and folder.name != f"step-{content['step']:07d}":
        checks.append(WeightsCheck(folder.name, "manifest", "fault", f"it is of step {content['step']}"))
    for name, recorded in content["files"].items():
        path = folder / name
        if not path.is_file():
            checks.append(WeightsCheck(name, "whole", "fault", "missing"))
        elif path.suffix == ".safetensors" and name in content["tensors"]:
            checks += [
                _named(each, name) for each in check_weights_file(path, content["tensors"][name], recorded["sha256"])
            ]
        else:
            same = digest.sha256_file(path) == recorded["sha256"]
            checks.append(
                WeightsCheck(name, "digests", "ok" if same else "fault", "" if same else "not the recorded bytes")
            )
    return [*checks, *check_moved(folder, content, previous)]


def _named(check: WeightsCheck, name: str) -> WeightsCheck:
    return WeightsCheck(name, check.what, check.state, check.detail)


def check_moved(folder: Path, content: Mapping[str, Any], previous: Path | None) -> list[WeightsCheck]:
    """Check that weights and AdamW's moments changed since an earlier checkpoint, where the learning rate is above 0.

    Step counts change in any case, so they are not compared.
    """
    files = (WEIGHTS, OPTIMIZER)
    if previous is None:
        return [WeightsCheck(name, "moved", "skipped", "no earlier checkpoint lies beside it") for name in files]
    try:
        before = checkpoint_manifest.read_checkpoint_manifest(previous)
    except ArtifactError as error:
        return [WeightsCheck(name, "moved", "skipped", error.message) for name in files]
    if before["step"] >= content["step"]:
        return [WeightsCheck(name, "moved", "skipped", f"{previous.name} is no earlier one") for name in files]
    if (rate := _rate(folder / OPTIMIZER)) == 0:
        return [WeightsCheck(name, "moved", "skipped", "its learning rate is 0") for name in files]
    checks = []
    for name in files:
        old, new = (_moving(each["tensors"].get(name, {}), name) for each in (before, content))
        common = sorted(old.keys() & new.keys())
        still = [tensor for tensor in common if old[tensor] == new[tensor]]
        if not common:
            checks.append(WeightsCheck(name, "moved", "skipped", "no tensor is in both"))
        elif len(still) == len(common):
            text = f"none of {len(common)} tensors has moved since {previous.name}, such as {common[0]}"
            at = "unknown" if rate is None else f"{rate:g}"
            checks.append(WeightsCheck(name, "moved", "fault", f"{text}, at a learning rate of {at}"))
        else:
            checks.append(WeightsCheck(name, "moved", "ok", f"{len(common) - len(still)} of {len(common)} tensors"))
    return checks


def _moving(recorded: Mapping[str, Any], name: str) -> dict[str, str]:
    """Tensor -> digest, of the tensors that a step must change."""
    return {
        tensor: entry["sha256"] for tensor, entry in recorded.items() if name == WEIGHTS or tensor.endswith(_MOMENTS)
    }


def _rate(path: Path) -> float | None:
    """The learning rate in an optimizer's state; None where it cannot be read."""
    try:
        tensor = next((each for each in tensor_digests.read_tensors(path) if each.name == "learning_rate"), None)
    except (ValueError, OSError):
        return None
    if tensor is None or tensor.dtype not in _FLOATS or len(tensor.data) != DTYPE_BYTES[tensor.dtype]:
        return None
    return float(np.frombuffer(tensor.data, _FLOATS[tensor.dtype])[0])


def count_zero_tensors(path: Path, ending: str) -> tuple[int, int]:
    """(tensors that are 0 throughout, all tensors) among those whose name has this ending."""
    chosen = [each for each in tensor_digests.read_tensors(path) if each.name.endswith(ending)]
    return sum(map(_is_zero, chosen)), len(chosen)


def _is_zero(tensor: StoredTensor) -> bool:
    if tensor.dtype == "BF16":
        return not np.any(np.frombuffer(tensor.data, np.uint16) & ~_BF16_SIGN)
    return not np.any(np.frombuffer(tensor.data, _FLOATS.get(tensor.dtype, np.uint8)))
