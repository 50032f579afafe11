"""What `thunder agp verify` asks of a token and of a log, and what it found."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from thunder.bridge.proof import admissibility, keys, provenance
from thunder.bridge.proof.admissibility import BOUND_IDS, BOUND_TEXTS, TokenClaims
from thunder.bridge.proof.keys import KeyRing
from thunder.errors import UsageError


def check_token_and_log(
    log: Path | None,
    token: str | None,
    texts: dict[str, str | None],
    ids: dict[str, str | None],
    key_file: str | None,
    allow_dev: bool,
) -> dict[str, Any]:
    """What was found, by name: `log` and `token` are "ok" where they hold.

    Raises UsageError where there is no key to check a token with, ArtifactError where the log cannot be read.
    """
    ring = _verification_keys(key_file, allow_dev, needed=token is not None)
    found: dict[str, Any] = {}
    claims = None
    if token is not None:
        given = {name: _text_or_file(text) for name, text in texts.items() if text is not None}
        bound = {**given, **{name: value for name, value in ids.items() if value is not None}}
        assert ring is not None
        told = admissibility.verify_token(_text_or_file(token).strip(), ring, bound, allow_dev=allow_dev)
        found["token"], claims = str(told), told.claims
    if log is not None:
        record, chain = None, provenance.ChainState()
        for so_far, each in provenance.read_records(log, ring):
            chain = so_far
            if claims and each and each.get("rid") == claims.rid:
                record = each
        found |= {"log": str(chain), "records": chain.lines, "head": chain.head}
        if chain.fault:
            found["fault"] = chain.fault
        if chain.unchecked:
            found["signatures not checked"] = chain.unchecked
        if claims and found["token"] == "ok":
            found["token"] = _compare_with_record(claims, record)
    return found


def _verification_keys(key_file: str | None, allow_dev: bool, needed: bool) -> KeyRing | None:
    """The keys to check with: of the file that is named or of the environment's, and the development key on request."""
    named = key_file or os.environ.get(keys.KEY_FILE_VARIABLE)
    if named:
        ring = keys.read_key_file(Path(named).expanduser())
        return KeyRing(ring.active, {**ring.keys, **keys.DEV_RING.keys}) if allow_dev else ring
    if allow_dev:
        return keys.DEV_RING
    if needed:
        raise UsageError(
            "there is no key to check a token with", fix=f"--key-file PATH, or {keys.KEY_FILE_VARIABLE}=PATH"
        )
    return None


def _compare_with_record(claims: TokenClaims, record: dict[str, Any] | None) -> str:
    """Whether the log's record says of the decision what the token says."""
    if record is None:
        return "mismatch:record"
    for name, claim in {**BOUND_TEXTS, **BOUND_IDS}.items():
        if record.get(claim) != getattr(claims, claim):
            return f"mismatch:{name}"
    return "ok"


def _text_or_file(text: str) -> str:
    """A text as it is given, or, after @, that of a file."""
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).expanduser().read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{text[1:]}: {error}", fix="name a file with the text in UTF-8") from None
