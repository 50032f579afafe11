"""Thunder Train: train, test and serve language technology on two Macs and a cable.

What the command line does can be called: `from thunder import train, evaluate, Bridge`. A name is loaded when it is
first used, so that `import thunder` itself loads neither MLX nor any model code.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from thunder.version import __version__

if TYPE_CHECKING:  # for type checkers and editors; `__getattr__` below does the same when a name is used
    from thunder.api.bridge_session import Bridge
    from thunder.api.corpus_build import build_corpus, build_synthetic_corpus
    from thunder.api.generation import generate
    from thunder.api.recognition import recognize
    from thunder.api.results import (
        AdapterTest,
        BridgeBatch,
        BridgeDecision,
        CorpusResult,
        EvaluationResult,
        RecognitionResult,
        TrainResult,
        TranscribedRecording,
        TranscribeResult,
        Transcript,
    )
    from thunder.api.run_evaluation import evaluate
    from thunder.api.run_training import pretrain, resume, train, train_recognizer
    from thunder.api.transcription import transcribe
    from thunder.errors import ThunderError
    from thunder.training.training_events import (
        Callback,
        CheckpointEvent,
        EndEvent,
        StartEvent,
        StepEvent,
        ValidationEvent,
    )

_NAMES_BY_MODULE = {
    "thunder.api.bridge_session": ("Bridge",),
    "thunder.api.corpus_build": (
        "build_corpus",
        "build_synthetic_corpus",
    ),
    "thunder.api.generation": ("generate",),
    "thunder.api.recognition": ("recognize",),
    "thunder.api.results": (
        "AdapterTest",
        "BridgeBatch",
        "BridgeDecision",
        "CorpusResult",
        "EvaluationResult",
        "RecognitionResult",
        "TrainResult",
        "TranscribedRecording",
        "TranscribeResult",
        "Transcript",
    ),
    "thunder.api.run_evaluation": ("evaluate",),
    "thunder.api.run_training": (
        "pretrain",
        "resume",
        "train",
        "train_recognizer",
    ),
    "thunder.api.transcription": ("transcribe",),
    "thunder.errors": ("ThunderError",),
    "thunder.training.training_events": (
        "Callback",
        "CheckpointEvent",
        "EndEvent",
        "StartEvent",
        "StepEvent",
        "ValidationEvent",
    ),
}
_MODULES = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}

__all__ = [
    "AdapterTest",
    "Bridge",
    "BridgeBatch",
    "BridgeDecision",
    "Callback",
    "CheckpointEvent",
    "CorpusResult",
    "EndEvent",
    "EvaluationResult",
    "RecognitionResult",
    "StartEvent",
    "StepEvent",
    "ThunderError",
    "TrainResult",
    "TranscribeResult",
    "TranscribedRecording",
    "Transcript",
    "ValidationEvent",
    "__version__",
    "build_corpus",
    "build_synthetic_corpus",
    "evaluate",
    "generate",
    "pretrain",
    "recognize",
    "resume",
    "train",
    "train_recognizer",
    "transcribe",
]


def __getattr__(name: str) -> Any:
    """Load an exported name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module 'thunder' has no attribute '{name}'")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
