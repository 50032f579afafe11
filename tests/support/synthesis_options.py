"""Settings of small synthetic corpora."""

from thunder.acoustic.synthesis.synthetic_speech import SynthesisSettings
from thunder.config import SettingsLayer, build_settings

LINES = [
    "A ni sɔgɔma, i ka kɛnɛ wa?", "N bɛ taa so sini.", "A ye ji min.", "San 1993 tun ka gɛlɛn.",
    "A ni sɔgɔma i ka kɛnɛ wa",
    "Ne ye muso dɔ ye sugu la.", "U ka baara ka ɲi kosɛbɛ.", "Den fila bɛ so kɔnɔ.", "Lariya ka bon.", "ߊ߬ ߣߌ߫ ߛߐ߲߬ߜߐ߬ߡߊ߫",
]  # fmt: skip


def settings_for(tmp_path, **options) -> SynthesisSettings:
    path = tmp_path / "text.txt"
    path.write_text("\n".join(LINES), encoding="utf-8")
    said = {"text": [str(path)], "out": str(tmp_path / "synthetic-bam"), "shortest": 5, "test_share": 0.3} | options
    return build_settings(SynthesisSettings, [SettingsLayer("test", said)])[0]
