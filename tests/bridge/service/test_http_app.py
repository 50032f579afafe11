"""The service: its contract, what it does under pressure and at its end, and that what it answered is on record."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from bridge_service import BETTER, BOOK, TEXT, ready, row, started_services
from conftest import write_rows

from thunder.bridge.bridge_settings import ServeSettings
from thunder.bridge.proof import admissibility, keys, provenance
from thunder.bridge.proposers import load_proposer
from thunder.bridge.service.http_app import is_loopback

serve = pytest.fixture(started_services)


def file_engine(tmp_path, *proposals):
    path = write_rows(tmp_path / "proposals.jsonl", list(proposals))
    return lambda: load_proposer(ServeSettings(engine=f"file:{path}"))


SURE = {"confidence": -0.05, "margin": 0.2}


def test_an_accepted_text_comes_with_a_token_and_a_record(serve, tmp_path):
    ring = keys.add_new_key(tmp_path / "keys.json")
    client = ready(serve(file_engine(tmp_path, {"id": "a", "proposal": BETTER, **SURE}), ring=ring))
    answer = client.post("/propose", json={"request_id": "q1", "row": row()})
    told = answer.json()
    assert answer.status_code == 200 and told["request_id"] == "q1" and told["reasons"] == []
    assert (told["decision"], told["final_text"], told["proposal"]) == ("accept", BETTER, BETTER)
    bound = {"input": TEXT, "proposal": BETTER, "output": BETTER, "rules": BOOK.id, "record": told["provenance_id"]}
    assert str(admissibility.verify_token(told["token"], ring, bound)) == "ok"
    [line] = client.log.path.read_text(encoding="utf-8").splitlines()
    record = json.loads(line)["record"]
    assert (record["rid"], record["decision"], record["request_id"]) == (told["provenance_id"], "accept", "q1")
    assert (record["input"], record["output"]) == (TEXT, BETTER)
    assert record["token_sha256"] == admissibility.text_digest(told["token"])
    assert provenance.verify_log(client.log.path, ring).lines == 1
    health = client.get("/health").json()
    assert (health["accepted"], health["rejected"], health["records"], health["requests"]) == (1, 0, 1, 1)
    assert health["chain_head"] == json.loads(line)["sha256"] and health["signing"] == ring.active


def test_rejecting_is_an_answer_too_and_on_record_without_a_token(serve, tmp_path):
    client = ready(serve(file_engine(tmp_path, {"id": "a", "proposal": BETTER, **SURE | {"margin": 0.0}})))
    told = client.post("/propose", json={"row": row()}).json()
    assert (told["decision"], told["final_text"], told["token"]) == ("reject", TEXT, None)
    assert [reason["rule"] for reason in told["reasons"]] == ["margin"]
    # the file has nothing for this row
    other = client.post("/propose", json={"row": row("b")}).json()
    assert [reason["rule"] for reason in other["reasons"]] == ["confidence", "margin", "withheld"]
    lines = [json.loads(line)["record"] for line in client.log.path.read_text(encoding="utf-8").splitlines()]
    assert [(each["decision"], each["token_sha256"]) for each in lines] == [("reject", None)] * 2


def test_a_batch_is_answered_whole_in_its_order_and_can_be_stopped_whole(serve, tmp_path):
    names = [f"f{number}" for number in range(20)]
    proposals = [{"id": name, "proposal": BETTER if place < 7 else TEXT, **SURE} for place, name in enumerate(names)]
    client = ready(serve(file_engine(tmp_path, *proposals), batch_size=4))
    told = client.post("/propose", json={"rows": [row(name) for name in names[1:]]}).json()
    assert told["breaker"] is None and [each["feat_id"] for each in told["rows"]] == names[1:]
    assert [each["decision"] for each in told["rows"]] == ["accept"] * 6 + ["keep"] * 13
    told = client.post("/propose", json={"rows": [row(name) for name in names]}).json()
    assert "7 of 20 rows would be changed" in told["breaker"]
    assert all(each["token"] is None and each["final_text"] == TEXT for each in told["rows"])
    assert client.log.lines == 39


BODY = json.dumps({"row": row()}).encode()


@pytest.mark.parametrize("method, path, body, headers, status, field", [
    ("POST", "/propose", b"{", {}, 400, None),
    ("POST", "/propose", b"\xff", {}, 400, None),
    ("POST", "/propose", b"", {}, 400, None),
    ("POST", "/propose", b"[" * 20000, {}, 400, None),
    ("POST", "/propose", BODY.replace(b"a", b"\\ud800", 1), {}, 400, None),
    ("POST", "/propose", b"[]", {}, 422, None),
    ("POST", "/propose", b"{}", {}, 422, "row"),
    ("POST", "/propose", b'{"row": 5}', {}, 422, "row"),
    ("POST", "/propose", json.dumps({"row": row(text="")}).encode(), {}, 422, "row.asr_text"),
    ("POST", "/propose", json.dumps({"row": row(text=" \n")}).encode(), {}, 422, "row.asr_text"),
    ("POST", "/propose", json.dumps({"row": row(text=5)}).encode(), {}, 422, "row.asr_text"),
    ("POST", "/propose", json.dumps({"row": row(text="a" * 2001)}).encode(), {}, 422, "row.asr_text"),
    ("POST", "/propose", json.dumps({"row": row(text="a" * 2000)}).encode(), {}, 200, None),
    ("POST", "/propose", json.dumps({"row": row(), "more": 1}).encode(), {}, 422, "more"),
    ("POST", "/propose", json.dumps({"row": row(partion="x")}).encode(), {}, 422, "row.partion"),
    ("POST", "/propose", json.dumps({"row": row(spans=[[1]])}).encode(), {}, 422, "row.spans.0.1"),
    ("POST", "/propose", json.dumps({"row": row(spans=[[1, 2]])}).encode(), {}, 200, None),
    ("POST", "/propose", json.dumps({"row": row(spans=[[1, 2.0]]), "options": {"deadline_ms": 5e3}}).encode(), {}, 200,
     None),
    ("POST", "/propose", json.dumps({"row": row(spans=[[1, 2.5]])}).encode(), {}, 422, "row.spans.0.1"),
    ("POST", "/propose", json.dumps({"row": row(spans=[[1, True]])}).encode(), {}, 422, "row.spans.0.1"),
    ("POST", "/propose", json.dumps({"row": row(spans=[[0, 10**300]])}).encode(), {}, 200, None),
    ("POST", "/propose", BODY[:-2] + b', "trajectory_scalars": {"novelty": NaN}}}', {}, 422,
     "row.trajectory_scalars.novelty"),
    ("POST", "/propose", json.dumps({"rows": [row()], "row": row()}).encode(), {}, 422, "row"),
    ("POST", "/propose", json.dumps({"rows": [row(), row(text="")]}).encode(), {}, 422, "rows.1.asr_text"),
    ("POST", "/propose", json.dumps({"rows": [row()] * 65}).encode(), {}, 422, "rows"),
    ("POST", "/propose", json.dumps({"row": row(), "options": {"deadline_ms": 1}}).encode(), {}, 422,
     "options.deadline_ms"),
    ("POST", "/propose", BODY, {"content-type": "text/plain"}, 415, "Content-Type"),
    ("POST", "/propose", BODY, {"content-type": ""}, 415, "Content-Type"),
    ("POST", "/propose", BODY, {"content-type": "Application/JSON; charset=utf-8"}, 200, None),
    ("POST", "/propose", BODY + b" " * 65536, {}, 413, None),
    ("POST", "/propose", BODY, {"content-length": "many"}, 400, None),
    ("GET", "/propose", b"", {}, 405, None),
    ("DELETE", "/health", b"", {}, 405, None),
    ("GET", "/", b"", {}, 404, None),
    ("GET", "/propose/", b"", {}, 404, None),
    ("GET", "/health", b"", {"host": "evil.example"}, 421, "Host"),
    ("GET", "/health", b"", {"host": "[::1]:9442"}, 200, None),
])  # fmt: skip
def test_the_contract(serve, method, path, body, headers, status, field):
    client = ready(serve())
    sent = {"content-type": "application/json", **headers}
    answer = client.request(method, path, content=body, headers=sent, follow_redirects=False)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    if status != 200:
        assert set(answer.json()) == {"error", "field"} and answer.json()["field"] == field
        assert "Traceback" not in answer.text and "thunder/" not in answer.text
    if status == 405:
        assert answer.headers["allow"]


def test_a_body_of_unknown_length_is_cut_off_at_the_limit(serve):
    client, sent = ready(serve(body_limit=1024)), []

    def endless():
        while len(sent) < 100:
            sent.append(1)
            yield b" " * 512

    answer = client.post("/propose", content=endless(), headers={"content-type": "application/json"})
    assert answer.status_code == 413


def test_before_the_model_is_there_and_where_it_never_will_be(serve):
    may = threading.Event()

    def late():
        assert may.wait(30)
        raise ValueError("no such weights")

    client = serve(late)
    health = client.get("/health")
    assert (health.status_code, health.json()["status"]) == (503, "loading")
    assert client.post("/propose", json={"row": row()}).status_code == 503
    may.set()
    failed = ready(client).get("/health")
    assert (failed.status_code, failed.json()["status"], failed.json()["reason"]) == (503, "failed", "no such weights")
    assert "failed" in client.post("/propose", json={"row": row()}).json()["error"]


def test_a_bearer_token_where_there_is_one(serve):
    client = serve(secret="s3cret-s3cret-s3cret")
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic s3cret-s3cret-s3cret"},
                    {"authorization": "Bearer "}, {"authorization": b"Bearer \xe9"}):  # fmt: skip
        for path in ("/health", "/openapi.json"):
            answer = client.get(path, headers=headers)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert client.post("/propose", json={"row": row()}, headers=headers).status_code == 401
    borne = {"authorization": "bearer s3cret-s3cret-s3cret", "host": "any.example"}
    assert client.get("/openapi.json", headers=borne).status_code == 200


@pytest.mark.parametrize("host, local", [
    ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
    ("10.0.5.1", False), ("example.org", False), ("", False),
])  # fmt: skip
def test_what_is_loopback(host, local):
    assert is_loopback(host) == local


@pytest.mark.expensive
def test_the_model_answers_alike_alone_and_together(serve, tiny_model):
    settings = ServeSettings(engine="mlx", model=str(tiny_model), batch_size=8)
    client = ready(serve(lambda: load_proposer(settings), engine="mlx", batch_size=8, linger_ms=50))
    texts = ["ߊ߬ ߞߊ߬", "ߕߊ߯ ߛߏ ߡߐ߱", "ߓߘߊ߫", "ߣߊ߬ ߟߊ߫ ߦߋ߫ ߡߎ߰ߛߏ", "ߗߍ߭ ߘߋ߲", "ߖߌ"]

    def ask(text):
        told = client.post("/propose", json={"row": row(text=text)}).json()
        return {name: told[name] for name in ("proposal", "decision", "final_text", "reasons")}, told["metrics"]

    alone = [ask(text) for text in texts]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(ask, texts))
    for (one, measured), (other, again) in zip(alone, together, strict=True):
        assert {**one, "reasons": [each["rule"] for each in one["reasons"]]} == {
            **other, "reasons": [each["rule"] for each in other["reasons"]]}  # fmt: skip
        assert measured["confidence"] == pytest.approx(again["confidence"], abs=1e-5)
    assert len({one["proposal"] for one, _ in alone}) > 3
    health = client.get("/health").json()
    assert len(health["base_digest"]) == 64 and health["adapter_digest"] is None
