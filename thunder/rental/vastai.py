"""Client for the `vastai` program, which rents machines by the hour: JSON answers, API key redacted in every text."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thunder.errors import ClusterError, UsageError
from thunder.units import Seconds

VAST_PROGRAM, KEY_VARIABLE = "vastai", "VAST_API_KEY"
ANSWER_TIMEOUT, COPY_TIMEOUT = Seconds(60), Seconds(4 * 3600)
_NOT_FOUND = re.compile(r"not found|no such instance|does not exist|404", re.IGNORECASE)
_KEY_PLACEHOLDER = "(key)"


@dataclass(frozen=True)
class Offer:
    """A machine that can be rented. usd_per_hour: the total, storage included."""

    id: int
    gpu: str
    gpus: int
    usd_per_hour: float
    reliability: float
    disk_gb: float
    down_mbps: float


@dataclass(frozen=True)
class Instance:
    """A rented machine; it costs money whatever it is doing."""

    id: int
    label: str
    status: str
    usd_per_hour: float

    @property
    def is_running(self) -> bool:
        """Whether the machine runs or is starting."""
        return self.status in ("running", "loading", "created", "scheduling")


class RentalError(ClusterError):
    """The rental service or its program failed."""


class VastClient:
    """One method per call of the program; raises RentalError if it fails, times out or answers invalidly."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self.environ = dict(environ)
        if not self.environ.get(KEY_VARIABLE):
            raise UsageError(
                f"{KEY_VARIABLE} is not set",
                fix=f"export {KEY_VARIABLE}=... (from your account's page); it is never logged",
            )

    def offers(self, query: str) -> list[Offer]:
        """Return the available offers, cheapest first."""
        answer = self._json(["search", "offers", query, "--order", "dph_total"])
        if not isinstance(answer, list):
            raise RentalError(f"{VAST_PROGRAM} search offers: expected a list, found {type(answer).__name__}")
        try:
            offers = [
                Offer(
                    int(one["id"]),
                    str(one["gpu_name"]),
                    int(one.get("num_gpus", 1)),
                    float(one["dph_total"]),
                    float(one.get("reliability2", one.get("reliability", 0))),
                    float(one.get("disk_space", 0)),
                    float(one.get("inet_down", 0)),
                )
                for one in answer
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise RentalError(f"{VAST_PROGRAM} search offers: {type(error).__name__}: {error}") from None
        return sorted(offers, key=lambda offer: offer.usd_per_hour)

    def create(self, offer: int, image: str, disk_gb: int, label: str, onstart: str) -> int:
        """Rent a machine and return its number."""
        words = ["create", "instance", str(offer), "--image", image, "--disk", str(disk_gb), "--label", label]
        answer = self._json([*words, "--ssh", "--direct", "--cancel-unavail", "--onstart-cmd", onstart])
        if not isinstance(answer, dict) or not answer.get("success") or not isinstance(answer.get("new_contract"), int):
            raise RentalError(
                f"{VAST_PROGRAM} create instance: no machine was created: {self._redact_key(json.dumps(answer))[:200]}"
            )
        return answer["new_contract"]

    def instances(self) -> list[Instance]:
        """Return all rented machines."""
        answer = self._json(["show", "instances"])
        if not isinstance(answer, list) or not all(isinstance(one, dict) and "id" in one for one in answer):
            raise RentalError(f"{VAST_PROGRAM} show instances: expected a list of machines")
        return [
            Instance(
                int(one["id"]),
                str(one.get("label") or ""),
                str(one.get("actual_status") or one.get("cur_state") or "created"),
                float(one.get("dph_total") or 0),
            )
            for one in answer
        ]

    def logs(self, instance: int, lines: int = 200) -> str:
        """Return the last lines of a machine's log."""
        return self._run_program(["logs", str(instance), "--tail", str(lines)], ANSWER_TIMEOUT)

    def upload(self, path: Path, instance: int, there: str) -> None:
        """Copy a file or folder to a machine."""
        self._run_program(["copy", f"local:{path}", f"C.{instance}:{there}"], COPY_TIMEOUT)

    def download(self, instance: int, there: str, path: Path) -> None:
        """Copy a file or folder from a machine."""
        self._run_program(["copy", f"C.{instance}:{there}", f"local:{path}"], COPY_TIMEOUT)

    def stop(self, instance: int) -> None:
        """Stop a machine: its GPU is no longer charged, its disk is."""
        self._run_program(["stop", "instance", str(instance)], ANSWER_TIMEOUT)

    def destroy(self, instance: int) -> None:
        """Release a machine with everything on it; no error if it is gone already."""
        try:
            self._run_program(["destroy", "instance", str(instance)], ANSWER_TIMEOUT)
        except RentalError as error:
            if not _NOT_FOUND.search(error.message):
                raise

    def _json(self, words: Sequence[str]) -> Any:
        text = self._run_program([*words, "--raw"], ANSWER_TIMEOUT)
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise RentalError(f"{VAST_PROGRAM} {' '.join(words[:2])}: not JSON: {text[:200]}") from None

    def _run_program(self, words: Sequence[str], timeout: Seconds) -> str:
        what = f"{VAST_PROGRAM} {' '.join(words[:2])}"
        try:
            done = subprocess.run(
                [VAST_PROGRAM, *words], capture_output=True, text=True, timeout=timeout, env=self.environ, check=False,
                stdin=subprocess.DEVNULL, errors="replace",
            )  # fmt: skip
        except FileNotFoundError:
            raise UsageError(f"program '{VAST_PROGRAM}' not found", fix=f"uv tool install {VAST_PROGRAM}") from None
        except subprocess.TimeoutExpired:
            raise RentalError(f"{what}: no answer within {timeout:.0f} s") from None
        if done.returncode:
            output = self._redact_key((done.stderr.strip() or done.stdout.strip())[-500:])
            raise RentalError(f"{what}: exit code {done.returncode}: {output}")
        return self._redact_key(done.stdout)

    def _redact_key(self, text: str) -> str:
        """Remove the API key from a text: the service repeats it in some errors."""
        return text.replace(self.environ[KEY_VARIABLE], _KEY_PLACEHOLDER)
