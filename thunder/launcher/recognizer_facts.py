"""The facts of a recognizer's training plan: features, labels and mode, read from disk, without MLX."""

from __future__ import annotations

from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.acoustic.dataset import utterances
from thunder.launcher.plan import DataPart, JobFacts, RowCounts


def recognizer_facts(settings: AcousticSettings) -> JobFacts:
    """Features, labels and mode; read from disk, without MLX."""
    features = utterances.open_features(settings.features, settings.texts)
    prepared = utterances.prepare_dataset(settings, features)
    store = features.stores[0]
    inputs = {"recipe": store.recipe.resolved(), "width": store.width, "mode": settings.mode_name}
    return JobFacts(
        acoustic=inputs | prepared.summary(),
        data=DataPart(
            train=RowCounts(rows=len(prepared.train)),
            sha256={"labels and features": prepared.digest()},
            files={str(number): folder for number, folder in enumerate(settings.features)},
        ),
    )
