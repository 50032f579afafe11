"""Repair recognized texts from Python: a proposer, the gate, signed tokens and the provenance log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload

from thunder.api.python_options import given_options
from thunder.api.results import PYTHON, BridgeBatch, BridgeDecision, bridge_decision
from thunder.bridge import proposers
from thunder.bridge.bridge_settings import BridgeSettings
from thunder.bridge.proof import keys
from thunder.bridge.proof.provenance import ProvenanceLog
from thunder.config import SettingsLayer, build_settings
from thunder.errors import UsageError
from thunder.evaluation import cases
from thunder.launcher.runs_folder import runs

if TYPE_CHECKING:
    from thunder.bridge.decisions import SignedDecision
    from thunder.evaluation.cases import Case

LOG_FILE = "provenance.jsonl"


class Bridge:
    """The bridge as an object: open it with `with`, then propose.

    The model is loaded once, when the bridge is opened. Every decision is appended to the provenance log; meanwhile no
    other process may write to it.

    Example:
        with Bridge(adapter_path="runs/latest/adapters", dev_key=True) as bridge:
            print(bridge.propose("ߊߟߎ߬ ߓߍ߫").text)
    """

    def __init__(self, **options: Any) -> None:
        """Check the options, the gate's rules and the keys; nothing is loaded yet.

        Args:
            **options: fields of `thunder.bridge.bridge_settings.BridgeSettings`, such as `adapter_path`, `engine`,
                `key_file` or `dev_key=True`; the shipped tiny base proposes where no model is named.

        Raises:
            UsageError: the engine does not exist, or the options do not fit together.
            ConfigError: the gate's rules or the keys cannot be used.
        """
        self._set_up(build_settings(BridgeSettings, [SettingsLayer(PYTHON, given_options(options))])[0])

    @classmethod
    def from_settings(cls, settings: BridgeSettings) -> Self:
        """A bridge from settings that are built already. Raises as the constructor."""
        bridge = cls.__new__(cls)
        bridge._set_up(settings)
        return bridge

    def _set_up(self, settings: BridgeSettings) -> None:
        self.settings = settings
        proposers.check_engine_options(settings)
        self.book = proposers.load_rulebook(settings)
        self.ring = keys.choose_key_ring(settings.key_file, settings.dev_key)
        self.row_ids: frozenset[str] | None = None
        """Ids that a file of proposals must have; set it before the bridge is opened, where they are known."""
        self._is_open = False

    @property
    def log_path(self) -> Path:
        """The provenance log: of the settings, else runs/agp/provenance.jsonl."""
        return Path(self.settings.log).expanduser() if self.settings.log else runs() / "agp" / LOG_FILE

    def __enter__(self) -> Self:
        """Open the log, then load the proposer.

        Raises ArtifactError where the log is damaged, UsageError where another process writes it, ModelError or
        CorpusError where the proposer cannot be loaded, ClusterError where another bridge cannot be reached.
        """
        self.log = ProvenanceLog(self.log_path, self.ring)
        self.log.__enter__()
        try:
            self.engine = proposers.load_proposer(self.settings, self.row_ids)
        except BaseException:
            self.log.__exit__(None, None, None)
            raise
        self._is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        self.log.__exit__(kind, error, trace)

    @overload
    def propose(self, texts: str) -> BridgeDecision: ...
    @overload
    def propose(self, texts: Iterable[str | Mapping[str, Any]]) -> BridgeBatch: ...
    def propose(self, texts: str | Iterable[str | Mapping[str, Any]]) -> BridgeDecision | BridgeBatch:
        """Propose a correction for each text and let the gate decide; signed and logged.

        Args:
            texts: one recognized text; or several, which form one batch: texts, or rows with `asr_text` and, where they
                have one, `id` or `feat_id`.

        Returns:
            The decision on one text, or the batch of decisions in the order of the texts.

        Raises:
            UsageError: the bridge is not open, or a row has no `asr_text`.
            ArtifactError: the log cannot be written further.
            ClusterError: another bridge as proposer does not answer.
        """
        one = isinstance(texts, str)
        rows = [_case(number, each) for number, each in enumerate([texts] if isinstance(texts, str) else texts)]
        signed, breaker = self.propose_cases(rows)
        decisions = tuple(bridge_decision(proposers.decision_line(each)) for each in signed)
        return decisions[0] if one else BridgeBatch(decisions, breaker)

    def propose_cases(
        self, rows: Sequence[Case], on_row: Callable[[int, int], None] = lambda done, total: None
    ) -> tuple[list[SignedDecision], str | None]:
        """As `propose`, for rows that are read already; returns the signed decisions and the breaker's reason."""
        if not self._is_open:
            raise UsageError("the bridge is not open", fix="with Bridge(...) as bridge: bridge.propose(...)")
        return proposers.propose_and_decide(
            rows, self.engine, self.book, self.ring, self.log, texts=self.settings.log_texts, on_row=on_row
        )


def _case(number: int, row: str | Mapping[str, Any]) -> Case:
    if isinstance(row, str):
        return cases.case_from_text(str(number), row, {})
    if "asr_text" not in row:
        raise UsageError(f"row {number}: no 'asr_text', only {', '.join(map(repr, row))}", fix="{'asr_text': TEXT}")
    row_id = row.get("id") or row.get("feat_id") or str(number)
    return cases.case_from_text(str(row_id), str(row["asr_text"]), dict(row))
