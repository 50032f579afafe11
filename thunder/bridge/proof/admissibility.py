"""Admissibility tokens: signed statements that a text is admissible, with everything that the decision depends on."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from thunder import digest
from thunder.bridge.proof.keys import DEV_KEY_ID, KeyRing

TOKEN_VERSION = 1
TOKEN_PREFIX = "tta1"
_DOMAIN = b"thunder agp admissibility token 1\0"
_LONGEST_TOKEN = 8192
TokenOutcome = Literal["ok", "malformed", "unknown_key", "dev_key", "bad_signature", "mismatch"]
# fields of a token that can be compared with known values, in the order of comparison
BOUND_TEXTS = {"input": "input_sha256", "proposal": "proposal_sha256", "output": "output_sha256"}
BOUND_IDS = {
    "base": "base_digest",
    "adapter": "adapter_digest",
    "prompt": "prompt_digest",
    "decoding": "decode_digest",
    "rules": "rules_id",
    "row": "row_id",
    "record": "rid",
    "partition": "partition",
    "decision": "decision",
}
BOUND_FIELDS = (*BOUND_TEXTS, *BOUND_IDS)


@dataclass(frozen=True)
class TokenClaims:
    """The content of a token. It has no floats: a rate is in millionths, a time in whole seconds.

    kid: id of the key. iat: time of issue (Unix time). rid: id of the decision's record in the provenance log.
    *_sha256: of the UTF-8 of the texts exactly as they were received and sent. base_digest and adapter_digest are None
    where no model was used, conf_e6 where the proposer reported no confidence.
    """

    kid: str
    iat: int
    rid: str
    row_id: str
    input_sha256: str
    proposal_sha256: str
    output_sha256: str
    base_digest: str | None
    adapter_digest: str | None
    prompt_digest: str
    decode_digest: str
    rules_id: str
    partition: str
    decision: str
    edits: int
    ratio_e6: int
    conf_e6: int | None
    v: int = TOKEN_VERSION


@dataclass(frozen=True)
class TokenVerification:
    """The result of a check: outcome, first field that does not match, and the claims once the signature is checked."""

    outcome: TokenOutcome
    field: str = ""
    claims: TokenClaims | None = None

    def __str__(self) -> str:
        return f"{self.outcome}:{self.field}" if self.field else self.outcome


def text_digest(text: str) -> str:
    """SHA-256 (hex) of a text's UTF-8, without normalization or trimming."""
    return digest.sha256_bytes(text.encode())


def issue_token(claims: TokenClaims, ring: KeyRing) -> str:
    """`tta1.<claims>.<tag>`: canonical JSON and HMAC-SHA-256 by the active key, both base64url without padding."""
    assert claims.kid == ring.active
    body = _encode(digest.canonical_json(vars(claims)))
    return f"{TOKEN_PREFIX}.{body}.{_tag(body, ring.keys[claims.kid])}"


def verify_token(
    token: str, ring: KeyRing, bound: Mapping[str, str | None], *, allow_dev: bool = False
) -> TokenVerification:
    """Check the signature of a token, then its fields.

    bound: the known values, by names of BOUND_FIELDS: texts for BOUND_TEXTS, values for BOUND_IDS. Other fields are not
    compared. Tokens of the development key are refused unless `allow_dev`.
    """
    body, tag, claims = _split_token(token)
    if claims is None:
        return TokenVerification("malformed")
    if claims.kid == DEV_KEY_ID and not allow_dev:
        return TokenVerification("dev_key")
    key = ring.keys.get(claims.kid)
    if key is None:
        return TokenVerification("unknown_key")
    # compare the encoded texts, not the bytes: base64 has spare bits that the decoder ignores
    if not hmac.compare_digest(_tag(body, key), tag):
        return TokenVerification("bad_signature")
    for name, value in bound.items():
        if not _matches(name, value, claims):
            return TokenVerification("mismatch", name, claims)
    return TokenVerification("ok", claims=claims)


def _matches(name: str, value: str | None, claims: TokenClaims) -> bool:
    if name in BOUND_TEXTS:
        assert value is not None
        return hmac.compare_digest(text_digest(value), getattr(claims, BOUND_TEXTS[name]))
    return value == getattr(claims, BOUND_IDS[name])


def _tag(body: str, key: bytes) -> str:
    return _encode(hmac.new(key, _DOMAIN + body.encode(), hashlib.sha256).digest())


def _split_token(token: str) -> tuple[str, str, TokenClaims | None]:
    """Body, tag and claims; no claims where the text is not a token in the one form that issue_token writes."""
    parts = token.split(".")
    if len(token) > _LONGEST_TOKEN or not token.isascii() or len(parts) != 3 or parts[0] != TOKEN_PREFIX:
        return "", "", None
    _, body, tag = parts
    try:
        data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        content = json.loads(data)
        canonical = _encode(digest.canonical_json(content)) == body
    except (binascii.Error, ValueError, RecursionError):
        return "", "", None
    return (body, tag, _parse_claims(content)) if canonical else ("", "", None)


def _parse_claims(content: Any) -> TokenClaims | None:
    if not isinstance(content, dict) or set(content) != {field.name for field in fields(TokenClaims)}:
        return None
    if content["v"] != TOKEN_VERSION or not isinstance(content["kid"], str):
        return None
    return TokenClaims(**content)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
