"""Translate keys of mlx_lm's YAML: to options of this package, to a note where they have no effect, or to an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thunder.config import option_names, suggest_name
from thunder.errors import UsageError, combined_error
from thunder.lora.lora_settings import LoraSettings

# fixed here; another value is refused
FIXED = {"train": True, "fine_tune_type": "lora", "training_mode": "normal"}
# not supported: only an empty value is accepted
NOT_DONE = ("hf_dataset", "trust_remote_code", "report_to")
# without effect here: key -> (the value without effect in mlx_lm too, the note for other values)
WITHOUT_EFFECT: dict[str, tuple[Any, str]] = {
    "val_batches": (-1, "every validation goes over the whole validation set"),
    "test_batches": (None, "`test_rows` says how much is tested"),
    "test": (True, "the test at the end is left out with `test_rows: 0`"),
    "clear_cache_threshold": (0, "the allocator's cache is kept"),
    "project_name": (None, "nothing is reported to a service"),
    "config": (None, "one file is read"),
}
LORA = {"rank": "lora_rank", "scale": "lora_scale", "dropout": "lora_dropout", "keys": "lora_keys"}
ADAMW = {"betas": "adam_betas", "weight_decay": "weight_decay"}
ADAMW_FIXED = {"eps": 1e-8, "bias_correction": False}
SCHEDULE = ("name", "warmup", "warmup_init", "arguments")


def from_mlx_lm(values: dict[str, Any], path: Path) -> tuple[dict[str, Any], list[str]]:
    """A file's values with mlx_lm's own keys made ours, and a note for each that is understood and has no effect.

    Keys that are neither ours nor mlx_lm's stay as they are. A key without a value says nothing, as in mlx_lm.

    Raises UsageError that lists everything which is not done here, not understood, or said twice.
    """
    reading = _Reading(dict(values))
    reading.lora_parameters()
    reading.optimizer()
    reading.schedule()
    reading.fixed()
    reading.without_effect()
    if reading.faults:
        faults = [f"{path}: {fault}" for fault in reading.faults]
        fix = "correct these or take them out, or train with mlx_lm.lora"
        raise combined_error(UsageError, "the configuration asks for what cannot be done here:", faults, fix)
    return reading.values, [f"{path}: {note}" for note in reading.notes]


class _Reading:
    """The values of a file while they are translated, with the notes and faults so far."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.notes: list[str] = []
        self.faults: list[str] = []
        fields = option_names(LoraSettings)
        self.keys = {fields[name]: key for key in values if (name := str(key).replace("-", "_")) in fields}

    def lora_parameters(self) -> None:
        """Translate `lora_parameters`."""
        for key, value in self._mapping("lora_parameters", LORA).items():
            self._set(LORA[key], value, f"'{key}' of 'lora_parameters'")

    def optimizer(self) -> None:
        """Translate the optimizer: AdamW, or Adam, which is the same without weight decay."""
        name = self.values.pop("optimizer", None)
        configs = self._mapping("optimizer_config")
        adam = isinstance(name, str) and name.lower() == "adam"
        used = "adam" if adam else "adamw"
        for key in configs:
            if key != used and configs[key]:
                self.notes.append(f"'{key}' of 'optimizer_config' has no effect: the optimizer is AdamW")
        known = {key: field for key, field in ADAMW.items() if not adam or key != "weight_decay"}
        where = f"'{used}' of 'optimizer_config'"
        for key, value in self._known(configs.get(used), where, [*known, *ADAMW_FIXED]).items():
            if key in known:
                self._set(known[key], value, f"'{key}' of {where}")
            elif value != ADAMW_FIXED[key]:
                self.faults.append(f"'{key}' of {where} can only be {ADAMW_FIXED[key]!r} here")
        decay = self.values.get(self.keys.get("weight_decay", ""))
        if adam and (isinstance(decay, bool) or decay != 0):
            self.faults.append(
                "'optimizer: adam' is not done here: AdamW is. Say `optimizer: adamw`, or add `weight_decay: 0`, with "
                "which the two are the same"
            )
        elif name is not None and not adam and (not isinstance(name, str) or name.lower() != "adamw"):
            self.faults.append(f"'optimizer' can only be 'adamw' here, not {name!r}")

    def schedule(self) -> None:
        """Translate the schedule: cosine decay with warm-up. mlx_lm's can end before the run; here it does not."""
        if "lr_schedule" in self.values and self.values["lr_schedule"] is None and "lr_final" not in self.keys:
            self.notes.append("'lr_schedule: null' has no effect: the rate decays, `lr_final: 1` holds it")
        if not (schedule := self._mapping("lr_schedule", SCHEDULE)):
            return
        if (name := schedule.get("name")) != "cosine_decay":
            self.faults.append(f"'name' of 'lr_schedule' can only be 'cosine_decay' here, not {name!r}")
            return
        if (arguments := _cosine(schedule.get("arguments"))) is None:
            self.faults.append(
                "'arguments' of 'lr_schedule' should be the peak rate, the steps, and the last rate if it is not 0, "
                f"not {schedule.get('arguments')!r}"
            )
            return
        peak, steps, last = arguments
        if "learning_rate" in self.keys:
            key = self.keys.pop("learning_rate")
            if (rate := self.values.pop(key)) != peak:
                self.notes.append(f"'{key}: {rate}' has no effect: the peak rate of 'lr_schedule', {peak}, wins")
        self._set("learning_rate", peak, "'arguments' of 'lr_schedule'")
        self._set("lr_final", last / peak, "'arguments' of 'lr_schedule'")
        if schedule.get("warmup") is not None:
            self._set("warmup", schedule["warmup"], "'warmup' of 'lr_schedule'")
        self.notes.append(f"the {steps} steps of 'lr_schedule' have no effect: the decay ends with the run")
        if schedule.get("warmup_init"):
            self.notes.append("'warmup_init' of 'lr_schedule' has no effect: the warm-up starts at 0")

    def fixed(self) -> None:
        """Check that fixed keys have their fixed value."""
        for key, only in FIXED.items():
            value = self.values.pop(key, None)
            if value is not None and value != only:
                self.faults.append(f"'{key}' can only be {only!r} here, not {value!r}")
        for key in NOT_DONE:
            if value := self.values.pop(key, None):
                self.faults.append(f"'{key}' is not done here, but is {value!r}")

    def without_effect(self) -> None:
        """Note each key that has no effect."""
        for key, (same, instead) in WITHOUT_EFFECT.items():
            value = self.values.pop(key, None)
            if value is not None and value != same:
                self.notes.append(f"'{key}: {value}' has no effect: {instead}")

    def _mapping(self, key: str, known: Any = None) -> dict[str, Any]:
        """Remove a key whose value is a mapping and return the mapping; a fault where it is none."""
        return self._known(self.values.pop(key, None), f"'{key}'", known)

    def _known(self, value: Any, where: str, known: Any = None) -> dict[str, Any]:
        """The known keys of a mapping; every other key is a fault."""
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.faults.append(f"{where} should be keys and values, not {value!r}")
            return {}
        if known is None:
            return value
        for key in value:
            if key not in known:
                hint = suggest_name(str(key), known) or f" Known are {', '.join(known)}."
                self.faults.append(f"unknown key '{key}' in {where}.{hint}")
        return {key: value[key] for key in value if key in known}

    def _set(self, field: str, value: Any, name: str) -> None:
        """Set an option from a key of mlx_lm's, unless the file sets it already."""
        if field in self.keys:
            self.faults.append(f"'{self.keys[field]}' and {name} are the same option")
            return
        self.values[field], self.keys[field] = value, field


def _cosine(arguments: Any) -> tuple[float, float, float] | None:
    """The arguments of mlx's cosine decay: peak rate, steps, and last rate from 0 to the peak; None where they differ.

    The last one may be left out.
    """
    if not isinstance(arguments, list) or len(arguments) not in (2, 3):
        return None
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in arguments):
        return None
    peak, steps, last = [*arguments, 0.0][:3]
    return (peak, steps, last) if peak > 0 and 0 <= last <= peak else None
