"""The rental ledger: what was rented, when, and what it cost; one line per event, written before the event's action."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from thunder.errors import ArtifactError

LEDGER_FILE = "costs.jsonl"
# of a rental: ordered; created; run started; run copied; stopped; released
LEDGER_EVENTS = ("ordered", "created", "started", "synced", "stopped", "destroyed")


class RentalLedger:
    """costs.jsonl in the folder of runs. clock: seconds since 1970."""

    def __init__(self, root: Path, clock: Callable[[], float] = time.time) -> None:
        self.path, self.clock = root / LEDGER_FILE, clock

    def note(self, event: str, label: str, **values: Any) -> None:
        """Append an event and flush it to disk."""
        assert event in LEDGER_EVENTS
        line = {"time": round(self.clock(), 3), "event": event, "label": label, **values}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    def rentals(self) -> dict[str, dict[str, Any]]:
        """Return label -> all values of each rental, with the time of each event under the event's name.

        Raises ArtifactError if a line is malformed.
        """
        rentals: dict[str, dict[str, Any]] = {}
        if not self.path.is_file():
            return rentals
        for number, text in enumerate(self.path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                line = json.loads(text)
                rental = rentals.setdefault(line["label"], {})
                rental |= {key: value for key, value in line.items() if key not in ("time", "event")}
                rental[line["event"]] = float(line["time"])
            except (ValueError, KeyError, TypeError):
                raise ArtifactError(
                    f"{self.path}:{number}: not a ledger line", fix="correct or remove the line"
                ) from None
        return rentals

    def open_rentals(self) -> dict[str, dict[str, Any]]:
        """Return the rentals that were ordered and not released."""
        return {label: one for label, one in self.rentals().items() if "destroyed" not in one}

    def spent_usd(self, prefix: str = "") -> float:
        """Return the USD spent on rentals whose label has a prefix: from the order to the release, or to now."""
        total = 0.0
        for label, one in self.rentals().items():
            if label.startswith(prefix) and "ordered" in one:
                hours = max(0.0, one.get("destroyed", self.clock()) - one["ordered"]) / 3600
                total += hours * float(one.get("usd_per_hour", 0))
        return total
