"""Every option, setting, environment variable and HTTP field of version 0.1.0 is still understood."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from version_artifacts import ARTIFACTS, expected

from thunder.acoustic.acoustic_settings import AcousticEvalSettings, AcousticSettings, TranscribeSettings
from thunder.acoustic.audit.audit_settings import AuditSettings
from thunder.acoustic.decoding.ngram_training import NgramSettings
from thunder.acoustic.features.feature_settings import FeatureSettings
from thunder.acoustic.features.recipe import Recipe
from thunder.acoustic.synthesis.synthetic_speech import SynthesisSettings
from thunder.bridge.bridge_settings import ProposeSettings, ScoreSettings, ServeSettings, SpeechSettings
from thunder.bridge.gate.gate_rules import GateRules
from thunder.bridge.service.http_app import BridgeService
from thunder.cli.main import main
from thunder.cluster.inventory.cluster_file import Cluster, Host
from thunder.config import REPOSITORY, Settings, SettingsLayer, build_settings, load_yaml, option_names
from thunder.corpora.corpus_settings import BuildSettings, SyntheticSettings
from thunder.evaluation.claims.promotion import PublicationClaim
from thunder.evaluation.evaluation_settings import EvalSettings
from thunder.lora.lora_settings import LoraSettings, PretrainSettings
from thunder.rental.rental_offers import RentalSettings
from thunder.report.report_settings import ReportSettings
from thunder.runs.hypotheses.frozen_hypothesis import Hypothesis
from thunder.runs.matrix.matrix_spec import Matrix, MatrixRun
from thunder.runs.tables.table_spec import TablesSpec

SETTINGS: dict[str, type[Settings]] = {
    "train": LoraSettings, "pretrain": PretrainSettings, "asr train": AcousticSettings,
    "asr eval": AcousticEvalSettings, "asr transcribe": TranscribeSettings, "asr features": FeatureSettings,
    "asr ngram": NgramSettings, "asr synthesise": SynthesisSettings, "audit": AuditSettings, "recipe": Recipe,
    "transcribe": SpeechSettings, "agp propose": ProposeSettings, "agp serve": ServeSettings,
    "agp eval": ScoreSettings, "gate rules": GateRules, "eval": EvalSettings, "claim": PublicationClaim,
    "report": ReportSettings,
    "corpus build": BuildSettings, "corpus synthetic": SyntheticSettings, "cluster": Cluster, "host": Host,
    "gpu": RentalSettings, "matrix": Matrix, "matrix run": MatrixRun, "hypothesis": Hypothesis, "tables": TablesSpec,
}  # fmt: skip
TRAINING = {"train": LoraSettings, "pretrain": PretrainSettings, "asr-train": AcousticSettings}
# read by people's shells and service files, or by ranks of the same version
VARIABLES = (
    "THUNDER_AGP_KEY_FILE", "THUNDER_CLUSTER", "THUNDER_OPENBLAS", "THUNDER_RUNS", "THUNDER_STATE", "THUNDER_PYTHON",
    "THUNDER_NO_APT",
)  # fmt: skip


def name_of(parameter: Any) -> str:
    """The id of a test: its command alone."""
    return parameter if isinstance(parameter, str) else ""


@pytest.mark.parametrize(("command", "options"), expected("options.json").items(), ids=name_of)
def test_every_option_of_every_command_is_taken(command, options, capsys):
    """`--help` is looked at first, wherever it stands, so that nothing runs; an unknown option is refused."""
    valued = [f"{name}=1" if name.startswith("--") else f"{name}1" for name in options["values"]]
    words = [word for word in (*options["switches"], *valued) if word != "--help"]
    assert main([*command.split(), *words, "--help"]) == 0, capsys.readouterr().err


def names_today(kind: type[Settings]) -> dict[str, str]:
    """Every name that a file may give -> the field that it sets."""
    return (option_names(kind)) | {info.alias: field for field, info in kind.model_fields.items() if info.alias}


def as_json(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else list(value)


@pytest.mark.parametrize(("where", "before"), expected("settings.json").items(), ids=name_of)
def test_every_name_of_every_setting_is_known_and_defaults_are_the_same(where, before):
    kind = SETTINGS[where]
    names = names_today(kind)
    assert sorted(before["names"].keys() - names.keys()) == []
    for name, field in before["names"].items():
        assert names[name] == names.get(field, field), f"{name} and {field} were one option"
    for field, value in before["defaults"].items():
        info = kind.model_fields[names.get(field, field)]
        assert not info.is_required(), field
        now = json.loads(json.dumps(info.get_default(call_default_factory=True), default=as_json))
        assert now == value, field


@pytest.mark.parametrize("name", TRAINING)
def test_a_configuration_has_the_digest_that_checkpoints_hold(name):
    """Old and new names of an option give one digest, or no checkpoint from before could be continued."""
    digests = expected("settings_digests.json")[name]
    values = load_yaml(ARTIFACTS / "options" / f"{name}.yaml")
    settings, _ = build_settings(TRAINING[name], [SettingsLayer("every option", values)])
    assert settings.digest() == digests["every option"]
    names = names_today(TRAINING[name])
    for field, value in values.items():
        today = getattr(settings, names[field])
        assert json.loads(json.dumps(today, default=as_json)) == value, field
    required = {field: values[field] for field, info in TRAINING[name].model_fields.items() if info.is_required()}
    assert build_settings(TRAINING[name], [SettingsLayer("defaults", required)])[0].digest() == digests["defaults"]


@pytest.mark.parametrize("variable", VARIABLES)
def test_every_variable_of_the_environment_is_read(variable):
    sources = [*(REPOSITORY / "thunder").rglob("*.py"), REPOSITORY / "launch.sh"]
    assert any(re.search(rf"\b{variable}\b", path.read_text(encoding="utf-8")) for path in sources)


def test_the_service_answers_at_the_same_paths_with_the_same_fields():
    before, now = expected("openapi.json"), json.loads(BridgeService(ServeSettings(), None, None, None)._document)
    assert before["paths"].keys() <= now["paths"].keys()
    for path, methods in before["paths"].items():
        assert methods.keys() <= now["paths"][path].keys()
        for method, said in methods.items():
            assert said["responses"].keys() <= now["paths"][path][method]["responses"].keys()

    def fields(document: dict) -> dict[str, set[str]]:
        return {name: {*schema.get("properties", {})} for name, schema in document["components"]["schemas"].items()}

    # schemas may get other names, their fields may not
    for name, properties in fields(before).items():
        assert any(properties <= each for each in fields(now).values()), name
