"""Options of `thunder eval`: what an evaluation of an earlier version stored is read."""

from __future__ import annotations

import json

from thunder.config import SettingsLayer, build_settings
from thunder.evaluation.evaluation_settings import EvalSettings
from thunder.evaluation.proposal_ledger import PARTIAL_FILE, read_stored_settings


def test_a_half_done_evaluation_of_an_earlier_version_is_read(tmp_path):
    stored = EvalSettings(rows="rows.jsonl", chunk_words=6).resolved()
    stored["window"] = stored.pop("chunk_words")
    header = {"evaluation": 1, "settings": stored, "ground": {"window": 6}}
    (tmp_path / PARTIAL_FILE).write_text(json.dumps(header) + "\n", encoding="utf-8")
    settings, _ = build_settings(EvalSettings, [SettingsLayer(str(tmp_path), read_stored_settings(tmp_path))])
    assert settings.chunk_words == 6 and EvalSettings(**stored) == settings
