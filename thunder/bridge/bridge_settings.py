"""Options of `thunder agp propose` and `thunder agp serve`; nothing here needs MLX."""

from __future__ import annotations

from typing import Literal

from thunder.acoustic.acoustic_settings import TranscribeSettings
from thunder.config import Settings, option

WHO, GATE, SERVICE, OUTPUT = "Proposer", "Gate, signature and log", "Service", "Output"


class ProposerSettings(Settings):
    """The proposer, and the rules of the gate."""

    engine: str = option(
        "mlx",
        "Engine: mlx (a base, with --adapter-path); identity; file:PATH; http://HOST:PORT (another bridge).",
        panel=WHO,
    )
    model: str | None = option(
        None, "Folder or Hugging Face repository of the base model (default: the tiny one shipped here).", panel=WHO
    )
    adapter_path: str | None = option(None, "Folder of the adapter.", aliases=["adapter"], panel=WHO)
    batch_size: int = option(16, "Rows decoded in one forward pass; every size gives the same texts.",
                             panel=WHO, ge=1, le=1024)  # fmt: skip
    chunk_words: int = option(
        0, "Correct longer inputs in chunks of this many words; 0 = whole.", old_names=["window"], panel=WHO, ge=0
    )
    engine_bearer_file: str | None = option(
        None, "File (mode 0600) with the token that another bridge (--engine http://...) requires.", panel=WHO
    )

    gate_rules: str | None = option(
        None,
        "File of the gate's rules (default: configs/gate/agp_rules_v2.yaml).",
        aliases=["gate"],
        old_names=["rules"],
        panel=GATE,
    )


class BridgeSettings(ProposerSettings):
    """Options of every command that decides on proposals."""

    log: str | None = option(None, "Provenance log (default: runs/agp/provenance.jsonl).", panel=GATE)
    log_texts: bool = option(True, "Keep the texts in the log; otherwise only their digests.", panel=GATE)
    key_file: str | None = option(None, "Key file (default: the one that THUNDER_AGP_KEY_FILE names).", panel=GATE)
    dev_key: bool = option(False, "Sign with the public development key, for experiments.", panel=GATE)


class ProposeSettings(BridgeSettings):
    """Options of `thunder agp propose`: decisions on the rows of a file."""

    out: str | None = option(None, "Write the decisions to this file (JSONL; default: standard output).", panel=GATE)
    limit: int = option(0, "Use only this many rows, from the first; 0 = all.", panel=WHO, ge=0)


class ScoreSettings(ProposerSettings):
    """Options of `thunder agp eval`: what the gate would accept, and its effect on the error rate."""

    engine: str = option(
        "rows",
        "Engine: rows (the proposals in the rows); mlx (a base, with --adapter-path); identity; oracle "
        "(the reference); file:PATH; http://HOST:PORT (another bridge).",
        panel=WHO,
    )
    compare: Literal["base", "none"] = option(
        "base", "Score the base alone behind the same gate, beside an adapter: base or none.", panel=WHO
    )
    limit: int = option(0, "Use only this many rows of each file, from the first; 0 = all.", panel=WHO, ge=0)
    seed: int = option(0, "Seed of the bootstrap.", panel=OUTPUT, ge=0)
    resamples: int = option(2000, "Resamples of the bootstrap.", panel=OUTPUT, ge=100, le=100_000)
    out: str | None = option(
        None,
        "Folder to write to; the same command continues an interrupted evaluation there. With several files, the "
        "parent of their folders (default: runs/<date>-gate-...).",
        panel=OUTPUT,
    )


class ServeSettings(BridgeSettings):
    """Options of `thunder agp serve`: the bridge over HTTP."""

    host: str = option("127.0.0.1", "Address to listen on; any but loopback needs --bearer-file.",
                       panel=SERVICE)  # fmt: skip
    port: int = option(9442, "Port to listen on; 0 = any free port.", panel=SERVICE, ge=0, le=65535)
    bearer_file: str | None = option(None, "File (mode 0600) with the token that requests must bear.",
                                     panel=SERVICE)  # fmt: skip
    queue: int = option(256, "Rows that may wait; further requests get 429.", panel=SERVICE, ge=1)
    linger_ms: float = option(4.0, "Milliseconds that a row waits for others to share its pass.", panel=SERVICE, ge=0)
    deadline: float = option(30.0, "Seconds after which a request gets 504.", panel=SERVICE, gt=0)
    drain: float = option(30.0, "Seconds that requests may take to finish after SIGTERM.", panel=SERVICE, gt=0)
    body_limit: int = option(65_536, "Largest request, in bytes.", panel=SERVICE, ge=1024)
    longest_text: int = option(2_000, "Longest text, in code points.", panel=SERVICE, ge=1)
    most_rows: int = option(64, "Most rows of one request.", panel=SERVICE, ge=1)


class SpeechSettings(TranscribeSettings, BridgeSettings):
    """Options of `thunder transcribe`: from from recordings to admissible text."""

    batch_size: int = option(
        16, "Recordings recognized, and rows decoded, in one forward pass.", panel=WHO, ge=1, le=1024
    )
    log: str | None = option(None, "Provenance log (default: provenance.jsonl in the folder).", panel=GATE)
    out: str | None = option(
        None, "Folder for the rows of every stage (default: runs/<date>-transcribe-...).", panel=GATE
    )
