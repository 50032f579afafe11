"""Tokens and keys: every bit of a token and every bound field counts; keys are kept to their owner."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from dataclasses import asdict, replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from thunder.bridge.proof import admissibility, keys
from thunder.bridge.proof.admissibility import BOUND_FIELDS, TokenClaims

KEY = bytes(range(32))
RING = keys.KeyRing(keys.key_id(KEY), {keys.key_id(KEY): KEY})
TEXTS = {"input": "ߊߋ ߌ", "proposal": "ߊߋ ߍ", "output": "ߊߋ ߍ"}
CLAIMS = TokenClaims(
    kid=RING.active, iat=1_790_000_000, rid="r1", row_id="f-0001",
    **{f"{name}_sha256": hashlib.sha256(text.encode()).hexdigest() for name, text in TEXTS.items()},
    base_digest="b" * 64, adapter_digest=None,
    prompt_digest="c" * 64, decode_digest="d" * 64, rules_id="agp_rules_v1@" + "e" * 64, partition="boundary",
    decision="accept", edits=1, ratio_e6=200_000, conf_e6=951_229,
)  # fmt: skip
IDS = {"base": "b" * 64, "adapter": None, "prompt": "c" * 64, "decoding": "d" * 64, "rules": "agp_rules_v1@" + "e" * 64,
       "row": "f-0001", "record": "r1", "partition": "boundary", "decision": "accept"}  # fmt: skip
TOKEN = admissibility.issue_token(CLAIMS, RING)


def outcome(token=TOKEN, ring=RING, bound=TEXTS | IDS, **more):
    return str(admissibility.verify_token(token, ring, bound, **more))


def test_a_token_is_made_as_the_documents_say():
    prefix, body, tag = TOKEN.split(".")
    wanted = json.dumps(asdict(CLAIMS), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert prefix == "tta1" and base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)) == wanted
    made = hmac.new(KEY, b"thunder agp admissibility token 1\0" + body.encode(), hashlib.sha256).digest()
    assert base64.urlsafe_b64decode(tag + "=") == made and len(made) == 32
    assert not any(isinstance(value, float) for value in asdict(CLAIMS).values())


def test_a_good_token_is_good():
    found = admissibility.verify_token(TOKEN, RING, TEXTS | IDS)
    assert (found.outcome, found.claims) == ("ok", CLAIMS)
    assert set(BOUND_FIELDS) == set(TEXTS | IDS)


def test_every_single_bit_of_a_token_counts():
    data = TOKEN.encode()
    for place in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        said = outcome(flipped.decode("latin-1"))
        assert said in ("malformed", "bad_signature", "unknown_key", "dev_key"), (place, said)


@pytest.mark.parametrize("name", BOUND_FIELDS)
def test_every_bound_field_is_named(name):
    given_now = TEXTS | IDS
    assert outcome(bound=given_now | {name: (given_now[name] or "") + "x"}) == f"mismatch:{name}"
    assert outcome(bound={other: value for other, value in given_now.items() if other != name}) == "ok"


def test_every_single_bit_of_a_bound_field_counts():
    bound = TEXTS | IDS
    tried = 0
    for name, value in bound.items():
        for place in range(8 * len((value or "").encode())):
            flipped = bytearray(value.encode())
            flipped[place // 8] ^= 1 << place % 8
            # what is no UTF-8 any more is another text still
            changed = flipped.decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode()
            assert outcome(bound=bound | {name: changed}) == f"mismatch:{name}", (name, place)
            tried += 1
    assert tried > 2000


@given(st.sampled_from(sorted(asdict(CLAIMS))), st.integers(0, 9))
@settings(max_examples=60)
def test_a_claim_cannot_be_changed_without_the_key(name, value):
    content = asdict(CLAIMS) | {name: value}
    assume(content != asdict(CLAIMS))
    body = base64.urlsafe_b64encode(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).rstrip(b"=")
    assert outcome(f"tta1.{body.decode()}.{TOKEN.split('.')[2]}") != "ok"


def signed(data: bytes, key: bytes = KEY, ends: str = "") -> str:
    body = base64.urlsafe_b64encode(data).rstrip(b"=").decode() + ends
    made = hmac.new(key, b"thunder agp admissibility token 1\0" + body.encode(), hashlib.sha256).digest()
    return f"tta1.{body}.{base64.urlsafe_b64encode(made).rstrip(b'=').decode()}"


@pytest.mark.parametrize("change", [
    lambda content: json.dumps(content).encode(),  # spaces
    lambda content: json.dumps(dict(reversed(content.items())), separators=(",", ":")).encode(),  # another order
    lambda content: json.dumps(content | {"more": 1}, sort_keys=True, separators=(",", ":")).encode(),
    lambda content: json.dumps(content | {"v": 2}, sort_keys=True, separators=(",", ":")).encode(),
    lambda content: b"[1]", lambda content: b"{", lambda content: b"\xff", lambda content: b"[" * 5000,
])  # fmt: skip
def test_another_form_of_the_same_claims_is_refused_though_it_is_signed(change):
    assert outcome(signed(change(asdict(CLAIMS)))) == "malformed"


@pytest.mark.parametrize("token", [
    "", ".", "..", "tta1..", "tta2." + TOKEN[5:], TOKEN + ".", TOKEN + "=", TOKEN + "\n", " " + TOKEN, TOKEN.upper(),
    TOKEN.replace(".", "。"), "tta1." + "A" * 9000 + ".AA", signed(b'{"v":NaN}'), signed(b'{"v":"\\ud800"}'),
])  # fmt: skip
def test_what_is_no_token(token):
    assert outcome(token) in ("malformed", "bad_signature")


def test_keys_that_are_retired_verify_and_strange_ones_do_not():
    other = bytes(32)
    ring = keys.KeyRing(keys.key_id(other), {keys.key_id(other): other, **RING.keys})
    assert outcome(ring=ring) == "ok"
    assert outcome(ring=keys.KeyRing(keys.key_id(other), {keys.key_id(other): other})) == "unknown_key"
    # the right id over another key
    assert outcome(ring=keys.KeyRing(RING.active, {RING.active: other})) == "bad_signature"


def test_the_development_key_counts_where_it_is_asked_for_only():
    token = admissibility.issue_token(replace(CLAIMS, kid="dev"), keys.DEV_RING)
    assert outcome(token, keys.DEV_RING) == "dev_key"
    assert outcome(token, RING, allow_dev=True) == "unknown_key"
    assert outcome(token, keys.DEV_RING, allow_dev=True) == "ok"


def test_key_files_are_their_owners_and_grow(tmp_path):
    path = tmp_path / "deep" / "keys.json"
    before = os.umask(0)
    try:
        first = keys.add_new_key(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    second = keys.add_new_key(path)
    assert keys.read_key_file(path) == second and first.active in second.keys and second.active != first.active
    assert all(len(key) == 32 for key in second.keys.values())
    token = admissibility.issue_token(replace(CLAIMS, kid=first.active), first)
    assert outcome(token, keys.read_key_file(path)) == "ok"
    assert second.keys[second.active].hex() not in repr(second)
