"""Texts and settings of small n-gram trainings."""

from thunder.acoustic.decoding.ngram_training import NgramSettings

LINES = ["A ni sɔgɔma!", "I ka kɛnɛ wa?", "n ye ji min", "mun bɛ yen", "ߊ߬ ߣߌ߫", "...", "an ka taa so", "a bɛ na sini"]


def settings_for(tmp_path, lines, **options) -> NgramSettings:
    path = tmp_path / "text.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return NgramSettings(**{"text": [str(path)], "script": "latin", "out": str(tmp_path / "x.arpa")} | options)
