"""`thunder survey`: what a job would find on this host, as one line of JSON; asked by the launcher, not by people."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import typer

from thunder import digest
from thunder.cli.parsing import paths
from thunder.cluster.health.host_report import SURVEY_PREFIX
from thunder.config import REPOSITORY, SettingsLayer, build_settings
from thunder.errors import ThunderError, UsageError
from thunder.runs.records import environment
from thunder.training.shapes import chips

app = typer.Typer(add_completion=False)


@app.command()
def survey() -> None:
    """Read {"job", "settings", "ranks"} on stdin; print the job's facts here, or what is wrong with it."""
    # a survey looks, it does not fetch gigabytes: a model that is not here is said to be missing
    os.environ["HF_HUB_OFFLINE"] = "1"
    said: dict[str, Any] = host_facts(None)
    code = 0
    try:
        request = parse_survey_request(sys.stdin.read())
        os.environ.update(request.get("env") or {})
        said = host_facts(request.get("runs"))
        said["facts"] = JOBS[request["job"]](
            request["settings"], int(request["ranks"]), bool(request.get("whole", True))
        )
    except ThunderError as error:
        code = error.exit_code
        said["error"] = {"kind": type(error).__name__, "message": error.message, "fix": error.fix, "exit_code": code}
    except OSError as error:
        code, text = ThunderError.exit_code, f"{error.filename or 'input or output'}: {error.strerror or error}"
        said["error"] = {"kind": "OSError", "message": text, "fix": "", "exit_code": code}
    print(f"\n{SURVEY_PREFIX}{json.dumps(said, ensure_ascii=False)}", flush=True)
    raise typer.Exit(code)


def parse_survey_request(text: str) -> dict[str, Any]:
    """The request.

    Raises UsageError where it is not of the form.
    """
    try:
        request = json.loads(text)
        if request["job"] in JOBS and isinstance(request["settings"], dict) and int(request["ranks"]) > 0:
            return dict(request)
    except (ValueError, TypeError, KeyError):
        pass
    form = f'{{"job": "{" | ".join(JOBS)}", "settings": {{...}}, "ranks": N}}'
    raise UsageError(f"the request is not of the form {form}: {text[:100]!r}", fix="the same version on every host")


def host_facts(runs: str | None) -> dict[str, Any]:
    """Versions and means of this host. runs: where runs lie here, where free disk is looked for."""
    folder = resolve_project_path(runs or "runs")
    while not folder.is_dir():
        folder = folder.parent
    lock = REPOSITORY / "requirements.lock"
    return {
        "versions": environment.package_versions(),
        "lock": digest.sha256_file(lock) if lock.is_file() else None,
        "chip": environment.chip_name(),
        "cores": environment.core_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "disk_free": shutil.disk_usage(folder).free,
        "home": str(Path.home()),
        "project": str(REPOSITORY),
        "measured": chips.remembered(paths.state_folder()).get(environment.chip_name()),
    }


def resolve_project_path(path: str) -> Path:
    """A path of the request on this host: ~ is its home, and what is relative lies in the project's folder."""
    return REPOSITORY / Path(path).expanduser()


def train_facts(settings: dict[str, Any], ranks: int, whole: bool) -> dict[str, Any]:
    """What the plan of `thunder train` says (whole), or what hosts are compared by; and of which files. No MLX."""
    from thunder.cli.launcher import plan_facts
    from thunder.lora import base_model, datasets
    from thunder.lora.lora_settings import LoraSettings

    built = paths.placed(build_settings(LoraSettings, [SettingsLayer("the job", settings)])[0])
    found = plan_facts.of_train(built, ranks) if whole else plan_facts.digests(built)
    found["data"]["files"] = {part: str(path) for part, path in datasets.files(built).items()}
    found["model"]["bytes"] = sum(path.stat().st_size for path in base_model.weight_files(Path(found["model"]["path"])))
    return found


def pretrain_facts(settings: dict[str, Any], ranks: int, whole: bool) -> dict[str, Any]:
    """The digest of the text, as the ranks agree on it."""
    from thunder.lora import open_text
    from thunder.lora.lora_settings import PretrainSettings

    built = paths.placed(build_settings(PretrainSettings, [SettingsLayer("the job", settings)])[0])
    text = open_text.read_text(built)
    lines = {"train": len(text.train), "heldout": len(text.heldout), "excluded": text.excluded}
    return {
        "data": {
            "lines": lines,
            "sha256": {"text": digest.sha256_json([*text.train, *text.heldout])},
            "files": {name: str(Path(built.text_root) / name) for name in built.text},
        }
    }


def asr_facts(settings: dict[str, Any], ranks: int, whole: bool) -> dict[str, Any]:
    """What the plan of `thunder asr train` says: features, labels and split of this host."""
    from thunder.acoustic.acoustic_settings import AcousticSettings
    from thunder.cli.commands.speech import asr_train

    return asr_train.facts(paths.placed(build_settings(AcousticSettings, [SettingsLayer("the job", settings)])[0]))


JOBS = {"train": train_facts, "pretrain": pretrain_facts, "asr": asr_facts}
