"""Check a token and a provenance log for `thunder agp verify`."""

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
    """The results by name: `log` and `token` are "ok" where the check passes.

    Raises UsageError where there is no key to check a token with, ArtifactError where the log cannot be read.
    """
    ring = _verification_keys(key_file, allow_dev, needed=token is not None)
    results: dict[str, Any] = {}
    claims = None
    if token is not None:
        given = {name: _text_or_file(text) for name, text in texts.items() if text is not None}
        bound = {**given, **{name: value for name, value in ids.items() if value is not None}}
        assert ring is not None
        verification = admissibility.verify_token(_text_or_file(token).strip(), ring, bound, allow_dev=allow_dev)
        results["token"], claims = str(verification), verification.claims
    if log is not None:
        record, chain = None, provenance.ChainState()
        for state, each in provenance.read_records(log, ring):
            chain = state
            if claims and each and each.get("rid") == claims.rid:
                record = each
        results |= {"log": str(chain), "records": chain.lines, "head": chain.head}
        if chain.fault:
            results["fault"] = chain.fault
        if chain.unchecked:
            results["signatures not checked"] = chain.unchecked
        if claims and results["token"] == "ok":
            results["token"] = _compare_with_record(claims, record)
    return results


def _verification_keys(key_file: str | None, allow_dev: bool, needed: bool) -> KeyRing | None:
    """The keys to check with: of the named file or the environment, and the development key on request."""
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
    """Compare the record of the log with the token."""
    if record is None:
        return "mismatch:record"
    for name, claim in {**BOUND_TEXTS, **BOUND_IDS}.items():
        if record.get(claim) != getattr(claims, claim):
            return f"mismatch:{name}"
    return "ok"


def _text_or_file(text: str) -> str:
    """The given text, or the content of the file that follows @."""
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).expanduser().read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{text[1:]}: {error}", fix="name a file with the text in UTF-8") from None
