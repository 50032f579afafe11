"""`thunder survey`: print one line of JSON on what a job would find on this host; run by the launcher."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import typer

from thunder import digest
from thunder.cluster.health.host_report import SURVEY_PREFIX
from thunder.config import REPOSITORY, SettingsLayer, build_settings
from thunder.errors import ThunderError, UsageError
from thunder.launcher.options import setting_paths
from thunder.runs.records import environment
from thunder.training.shapes import chips

app = typer.Typer(add_completion=False)


@app.command()
def survey() -> None:
    """Read {"job", "settings", "ranks"} on stdin; print the job's facts here, or what is wrong with it."""
    # a survey does not download models: one that is not on this host is reported as missing
    os.environ["HF_HUB_OFFLINE"] = "1"
    facts: dict[str, Any] = host_facts(None)
    code = 0
    try:
        request = parse_survey_request(sys.stdin.read())
        os.environ.update(request.get("env") or {})
        facts = host_facts(request.get("runs"))
        facts["facts"] = JOBS[request["job"]](
            request["settings"], int(request["ranks"]), bool(request.get("whole", True))
        )
    except ThunderError as error:
        code = error.exit_code
        facts["error"] = {"kind": type(error).__name__, "message": error.message, "fix": error.fix, "exit_code": code}
    except OSError as error:
        code, text = ThunderError.exit_code, f"{error.filename or 'input or output'}: {error.strerror or error}"
        facts["error"] = {"kind": "OSError", "message": text, "fix": "", "exit_code": code}
    print(f"\n{SURVEY_PREFIX}{json.dumps(facts, ensure_ascii=False)}", flush=True)
    raise typer.Exit(code)


def parse_survey_request(text: str) -> dict[str, Any]:
    """Parse the request.

    Raises UsageError if it is malformed.
    """
    try:
        request = json.loads(text)
        if request["job"] in JOBS and isinstance(request["settings"], dict) and int(request["ranks"]) > 0:
            return dict(request)
    except (ValueError, TypeError, KeyError):
        pass
    form = f'{{"job": "{" | ".join(JOBS)}", "settings": {{...}}, "ranks": N}}'
    raise UsageError(f"the request does not have the form {form}: {text[:100]!r}", fix="the same version on every host")


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
        "measured": chips.read_measured_chips(setting_paths.state_folder()).get(environment.chip_name()),
    }


def resolve_project_path(path: str) -> Path:
    """Resolve a path of the request on this host: ~ is its home, a relative path is below the project's folder."""
    return REPOSITORY / Path(path).expanduser()


def survey_train(settings: dict[str, Any], ranks: int, whole: bool) -> dict[str, Any]:
    """The facts of `thunder train` (whole), or the digests that hosts are compared by; and its files. No MLX."""
    from thunder.launcher import plan_facts
    from thunder.lora import base_model, datasets
    from thunder.lora.lora_settings import LoraSettings

    built = setting_paths.local_paths(build_settings(LoraSettings, [SettingsLayer("the job", settings)])[0])
    facts = plan_facts.train_facts(built, ranks).to_json() if whole else plan_facts.train_digests(built)
    facts["data"]["files"] = {part: str(path) for part, path in datasets.dataset_files(built).items()}
    facts["model"]["bytes"] = sum(path.stat().st_size for path in base_model.weight_files(Path(facts["model"]["path"])))
    return facts


def survey_pretrain(settings: dict[str, Any], ranks: int, whole: bool) -> dict[str, Any]:
    """The digest of the text, as the ranks agree on it."""
    from thunder.launcher import plan_facts
    from thunder.lora.lora_settings import PretrainSettings

    built = setting_paths.local_paths(build_settings(PretrainSettings, [SettingsLayer("the job", settings)])[0])
    return plan_facts.pretrain_facts(built).to_json()


def survey_recognizer(settings: dict[str, Any], ranks: int, whole: bool) -> dict[str, Any]:
    """The facts of `thunder asr train`: features, labels and split of this host."""
    from thunder.acoustic.acoustic_settings import AcousticSettings
    from thunder.launcher.recognizer_facts import recognizer_facts

    built = setting_paths.local_paths(build_settings(AcousticSettings, [SettingsLayer("the job", settings)])[0])
    return recognizer_facts(built).to_json()


JOBS = {"train": survey_train, "pretrain": survey_pretrain, "asr": survey_recognizer}
