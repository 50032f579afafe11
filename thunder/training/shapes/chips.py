"""Rates of chips and the size of MLX's command buffers on them: published figures, or those of `thunder calibrate`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.config import suggest_name
from thunder.errors import UsageError

CHIPS_FILE = "chips.json"
PUBLISHED = "published, not measured"
# Assumptions, until a machine is measured: the share of a published peak that MLX reaches, and with 4-bit weights.
REACHED, REACHED_OF_BANDWIDTH, REACHED_QUANTISED = 0.6, 0.8, 0.7
LANES = 128  # of an Apple GPU core: float32 multiply-adds a cycle
# The fewest GPU cores sold under a name, their clock (GHz), and bytes a second of the slowest memory. Assumptions:
# bfloat16 is as fast as float32, though M5's matrix units are faster; M5's clock is M4's.
_FAMILIES = {
    "M1": ((7, 1.278, 68e9), (14, 1.296, 200e9), (24, 1.296, 400e9), (48, 1.296, 800e9)),
    "M2": ((8, 1.398, 100e9), (16, 1.398, 200e9), (30, 1.398, 400e9), (60, 1.398, 800e9)),
    "M3": ((8, 1.380, 100e9), (14, 1.380, 150e9), (30, 1.398, 300e9), (60, 1.398, 819e9)),
    "M4": ((8, 1.470, 120e9), (16, 1.470, 273e9), (32, 1.578, 410e9)),
    "M5": ((8, 1.470, 153e9), (16, 1.470, 307e9), (32, 1.578, 460e9)),
}
_CLASSES = ("", " Pro", " Max", " Ultra")
# MLX's own limits by the last letter of the GPU's architecture: g (base, Pro), s (Max), d (Ultra)
_BUFFERS = {"": (40, 40), " Pro": (40, 40), " Max": (50, 50), " Ultra": (50, 50)}


@dataclass(frozen=True)
class Chip:
    """Rates that MLX reaches on a chip, by kind of command, and the limits of its command buffers.

    float32, reduced (bfloat16), quantised (4 bits), attention: multiply-adds a second. bandwidth: bytes a second.
    operations, megabytes: limits of a command buffer. memory: most bytes that the GPU should use, None where it is not
    known. source: where the figures come from.
    """

    name: str
    float32: float
    reduced: float
    quantised: float
    attention: float
    bandwidth: float
    operations: int = 40
    megabytes: int = 40
    memory: int | None = None
    source: str = PUBLISHED

    @property
    def has_watchdog(self) -> bool:
        """Whether the system kills long GPU commands."""
        return self.name.startswith("Apple")


def published_chips() -> dict[str, Chip]:
    """Name -> chip, of every chip with published figures."""
    published = {}
    for family, members in _FAMILIES.items():
        for kind, (cores, clock, bandwidth) in zip(_CLASSES, members, strict=False):
            rate, name = cores * LANES * clock * 1e9 * REACHED, f"Apple {family}{kind}"
            rates = (rate, rate, rate * REACHED_QUANTISED, rate, bandwidth * REACHED_OF_BANDWIDTH)
            published[name] = Chip(name, *rates, *_BUFFERS[kind])
    return published


def known_chips(measured: Mapping[str, dict[str, Any]]) -> dict[str, Chip]:
    """Published chips, replaced or extended by measured ones as `read_measured_chips` returns them.

    A measurement that cannot be read is left out: it can be made again.
    """
    chips = published_chips()
    for name, figures in measured.items():
        before = chips.get(name, Chip(name, 1, 1, 1, 1, 1))
        names = {field.name for field in fields(Chip)} - {"name", "operations", "megabytes"}
        try:
            chips[name] = replace(before, **{key: figures[key] for key in names})
        except (KeyError, TypeError):
            continue
    return chips


def find_chip(name: str, chips: Mapping[str, Chip]) -> Chip:
    """A chip by its name, with or without "Apple".

    Raises UsageError that lists the chips where there is no such one.
    """
    for full in (name, f"Apple {name}"):
        if full in chips:
            return chips[full]
    short = [full.removeprefix("Apple ") for full in chips]
    raise UsageError(
        f"--chip {name}: no figures of it.{suggest_name(name.removeprefix('Apple '), short)}",
        fix=f"`thunder calibrate` on that machine, or one of: {', '.join(short)}",
    )


def read_measured_chips(folder: Path) -> dict[str, dict[str, Any]]:
    """Name -> what `save_measured_chip` wrote; empty where the file is absent or damaged."""
    try:
        figures = json.loads((folder / CHIPS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {name: each for name, each in figures.items() if isinstance(each, dict)} if isinstance(figures, dict) else {}


def save_measured_chip(folder: Path, chip: Chip, **more: Any) -> Path:
    """Save a measured chip with its date and versions; returns the file, which people may read and remove."""
    folder.mkdir(parents=True, exist_ok=True)
    digest.write_json(folder / CHIPS_FILE, read_measured_chips(folder) | {chip.name: asdict(chip) | more})
    return folder / CHIPS_FILE
