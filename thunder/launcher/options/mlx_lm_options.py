"""Translate mlx_lm's options: to options of this package, to a note where they have no effect, or to an error."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

from thunder.config import option_names, suggest_name
from thunder.errors import UsageError, combined_error
from thunder.lora.lora_settings import LoraSettings

# fixed here; another value is refused: key -> (the value, what to do for another one)
FIXED: dict[str, tuple[Any, str]] = {
    "train": (True, "`./launch.sh eval --adapter-path ADAPTER --rows ROWS` tests without training"),
    "fine_tune_type": ("lora", "mlx_lm.lora trains the others"),
    "training_mode": ("normal", "only supervised training exists here"),
}
# not supported: key -> what to do
NOT_DONE = {
    "hf_dataset": "`hf download --repo-type dataset NAME --local-dir FOLDER` fetches it; --train-data reads its JSONL"
}
# without effect here: key -> (the value without effect in mlx_lm too, the note for other values)
WITHOUT_EFFECT: dict[str, tuple[Any, str]] = {
    "test": (True, "the test at the end is left out with `test_rows: 0`"),
    "report_to": (None, "no service is reported to; metrics.jsonl and `./launch.sh report RUN` have the curves"),
    "project_name": (None, "nothing is reported to a service"),
    "trust_remote_code": (False, "code from a model's folder is never run"),
    "config": (None, "one file is read"),
}
LORA = {"rank": "lora_rank", "scale": "lora_scale", "dropout": "lora_dropout", "keys": "lora_keys"}
ADAMW = {
    "betas": "adam_betas",
    "eps": "adam_eps",
    "bias_correction": "adam_bias_correction",
    "weight_decay": "weight_decay",
}
NOT_ADAM = ("muon", "sgd", "adafactor")
SCHEDULE = ("name", "warmup", "warmup_init", "arguments")

FLAGS: dict[str, tuple[type, str]] = {
    "train": (bool, "As in mlx_lm.lora; this command always trains."),
    "test": (bool, "As in mlx_lm.lora; a run always ends with a test, unless --test-rows is 0."),
    "fine_tune_type": (str, "As in mlx_lm.lora; 'lora' alone."),
    "optimizer": (str, "As in mlx_lm.lora: 'adamw', or 'adam', which is AdamW without weight decay."),
    "report_to": (str, "As in mlx_lm.lora; without effect here, and the plan says so."),
    "project_name": (str, "As in mlx_lm.lora; without effect here, and the plan says so."),
    "trust_remote_code": (bool, "As in mlx_lm.lora; without effect here, and the plan says so."),
    "hf_dataset": (str, "As mlx_lm's YAML key; refused with the command that fetches one."),
}
"""Flags of mlx_lm.lora that set no option of their own: name -> (type, help)."""

DEFAULTS: dict[str, Any] = {
    "model": "Qwen/Qwen3-0.6b",
    "num_layers": 16,
    "batch_size": 4,
    "learning_rate": 1e-5,
    "max_seq_length": 2048,
    "mask_prompt": False,
    "weight_decay": 0.0,
    "lr_final": 1.0,
    "max_grad_norm": 0.0,
}
"""What mlx_lm.lora does where a line says nothing: option of ours -> value, for those that differ here."""


def from_mlx_lm(
    values: Mapping[str, Any], where: Path | str, optimizer: str | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Options with mlx_lm's own keys made ours, and a note for each that is understood and has no effect.

    Keys that are neither ours nor mlx_lm's stay as they are. A key without a value says nothing, as in mlx_lm.
    where: the file, or "command line". optimizer: the one that a stronger source names.

    Raises UsageError that lists everything which is not done here, not understood, or said twice.
    """
    reading = _Reading(dict(values))
    reading.lora_parameters()
    reading.optimizer(optimizer)
    reading.schedule()
    reading.sizes()
    reading.fixed()
    reading.without_effect()
    if reading.faults:
        faults = [f"{where}: {fault}" for fault in reading.faults]
        fix = "correct these or take them out, or train with mlx_lm.lora"
        raise combined_error(UsageError, "the configuration asks for what cannot be done here:", faults, fix)
    return reading.values, [f"{where}: {note}" for note in reading.notes]


def differing_defaults(settings: Mapping[str, Any], said: Container[str]) -> str:
    """A note on the options that a line of mlx_lm.lora leaves open and that differ here; empty where none does.

    settings: the run's values. said: the options that the line or its file names.
    """
    differing = [
        f"{name} {settings[name]} (mlx_lm: {value})"
        for name, value in DEFAULTS.items()
        if name not in said and settings[name] != value
    ]
    return f"the line leaves open what differs from mlx_lm's defaults: {', '.join(differing)}" if differing else ""


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

    def optimizer(self, stronger: str | None) -> None:
        """Translate the optimizer: AdamW, or Adam, which is the same without weight decay."""
        own = self.values.pop("optimizer", None)
        name = own if stronger is None else stronger
        configs = self._mapping("optimizer_config")
        adam = isinstance(name, str) and name.lower() == "adam"
        used = "adam" if adam else "adamw"
        for key in configs:
            if key != used and configs[key]:
                self.notes.append(f"'{key}' of 'optimizer_config' has no effect: the optimizer is {used}")
        known = {key: field for key, field in ADAMW.items() if not adam or key != "weight_decay"}
        where = f"'{used}' of 'optimizer_config'"
        for key, value in self._known(configs.get(used), where, known).items():
            self._set(known[key], value, f"'{key}' of {where}")
        if stronger is not None:
            return
        if adam:
            self._set_adam()
        elif name is not None and (not isinstance(name, str) or name.lower() != "adamw"):
            why = ": its state and its rate are others" if name in NOT_ADAM else ""
            self.faults.append(f"'optimizer' can only be 'adamw' or 'adam' here, not {name!r}{why}")

    def _set_adam(self) -> None:
        """Adam is AdamW without weight decay."""
        decay = self.values.get(self.keys.get("weight_decay", ""), 0)
        if isinstance(decay, bool) or decay != 0:
            self.faults.append(
                f"'optimizer: adam' has no weight decay, and 'weight_decay' is {decay!r}: say `optimizer: adamw`, or "
                "leave the decay out"
            )
        elif "weight_decay" not in self.keys:
            self._set("weight_decay", 0.0, "'optimizer: adam'")

    def schedule(self) -> None:
        """Translate the schedule: decay with warm-up. mlx_lm's can end before the run; here it does not."""
        if "lr_schedule" in self.values and self.values["lr_schedule"] is None and "lr_final" not in self.keys:
            self.notes.append("'lr_schedule: null' has no effect: the rate decays, `lr_final: 1` holds it")
        if not (schedule := self._mapping("lr_schedule", SCHEDULE)):
            return
        name = schedule.get("name")
        if name not in _SCHEDULES:
            known = " or ".join(f"'{each}'" for each in _SCHEDULES)
            self.faults.append(f"'name' of 'lr_schedule' can only be {known} here, not {name!r}")
            return
        kind, parse, expected = _SCHEDULES[name]
        if (arguments := parse(schedule.get("arguments"))) is None:
            text = f"'arguments' of 'lr_schedule' should be {expected}, not {schedule.get('arguments')!r}"
            self.faults.append(text)
            return
        peak, steps, last = arguments
        if "learning_rate" in self.keys:
            key = self.keys.pop("learning_rate")
            if (rate := self.values.pop(key)) != peak:
                self.notes.append(f"'{key}: {rate}' has no effect: the peak rate of 'lr_schedule', {peak}, wins")
        self._set("learning_rate", peak, "'arguments' of 'lr_schedule'")
        self._set("lr_final", last / peak, "'arguments' of 'lr_schedule'")
        if kind != "cosine":
            self._set("lr_scheduler_type", kind, "'name' of 'lr_schedule'")
        if schedule.get("warmup") is not None:
            self._set("warmup", schedule["warmup"], "'warmup' of 'lr_schedule'")
        self.notes.append(f"the {steps} steps of 'lr_schedule' have no effect: the decay ends with the run")
        if schedule.get("warmup_init"):
            self.notes.append("'warmup_init' of 'lr_schedule' has no effect: the warm-up starts at 0")

    def sizes(self) -> None:
        """Write sizes as text: mlx_lm's YAML has bytes, its flags '4GB'."""
        key = self.keys.get("clear_cache_threshold")
        if key is not None and isinstance(self.values[key], int) and not isinstance(self.values[key], bool):
            self.values[key] = str(self.values[key])

    def fixed(self) -> None:
        """Check that fixed keys have their fixed value."""
        for key, (only, instead) in FIXED.items():
            value = self.values.pop(key, None)
            if value is not None and value != only:
                self.faults.append(f"'{key}' can only be {only!r} here, not {value!r}: {instead}")
        for key, instead in NOT_DONE.items():
            if value := self.values.pop(key, None):
                self.faults.append(f"'{key}' is not done here, but is {value!r}: {instead}")

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
    return _falling([*arguments, 0.0][:3]) if isinstance(arguments, list) and len(arguments) in (2, 3) else None


def _linear(arguments: Any) -> tuple[float, float, float] | None:
    """The arguments of mlx's linear schedule (first rate, last rate, steps), as `_cosine` returns them."""
    if not isinstance(arguments, list) or len(arguments) != 3:
        return None
    first, last, steps = arguments
    return _falling([first, steps, last])


def _falling(numbers: list[Any]) -> tuple[float, float, float] | None:
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        return None
    peak, steps, last = numbers
    return (peak, steps, last) if peak > 0 and 0 <= last <= peak else None


# name in mlx -> (value of `lr_scheduler_type`, its arguments' reader, what these should be)
_SCHEDULES: dict[Any, tuple[str, Callable[[Any], tuple[float, float, float] | None], str]] = {
    "cosine_decay": ("cosine", _cosine, "the peak rate, the steps, and the last rate if it is not 0"),
    "linear_schedule": ("linear", _linear, "the first rate, a last rate that is not higher, and the steps"),
}
