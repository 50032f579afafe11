"""Another bridge as the proposer: the same proposals as its own engine's, busy, gone, strange and hostile bridges."""

from __future__ import annotations

import gzip
import json
import math
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import write_rows
from served import Served

from thunder.bridge import http_proposer, proposers
from thunder.bridge.bridge_settings import BridgeSettings
from thunder.cli.main import main
from thunder.errors import ClusterError, RunFailed, UsageError
from thunder.evaluation import cases
from thunder.evaluation.engines import Proposal

TEXT, BETTER = "ߣߋߤߍߛߍ ߡߌ ߓ", "ߣߋߛߍߛߍ ߡߌ ߓ"
HEALTH = {
    "status": "ok", "version": "1", "engine": "mlx", "base_digest": "b" * 64, "adapter_digest": None, "rules_id": "r",
    "signing": "k", "requests": 0, "accepted": 0, "rejected": 0, "kept": 0, "waiting": 0, "records": 0,
    "chain_head": "0", "uptime_s": 1.0,
}  # fmt: skip


class Fake:
    """A server that answers from a list of (status, headers, content), the last one for ever, and keeps what came."""

    def __init__(self):
        self.answers, self.health, self.asked = [], dict(HEALTH), []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                fake.asked.append((self.path, dict(self.headers), None))
                failed = fake.health.get("status") != "ok"
                self.say(503 if failed else 200, {}, fake.health)

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                fake.asked.append((self.path, dict(self.headers), body))
                answer = fake.answers.pop(0) if len(fake.answers) > 1 else fake.answers[0]
                self.say(*(answer(body) if callable(answer) else answer))

            def say(self, status, headers, content):
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.where = http_proposer.BridgeAddress("http", "127.0.0.1", self.port, "")
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def posts(self):
        return [body for path, _, body in self.asked if path.endswith("/propose")]


@pytest.fixture
def fake():
    made = Fake()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(http_proposer, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(http_proposer, "LONGEST_PAUSE", 0.02)
    monkeypatch.setattr(http_proposer, "PATIENCE", 0.5)
    monkeypatch.setattr(http_proposer, "CONNECT", 2.0)
    monkeypatch.setattr(http_proposer, "ANSWER", 2.0)


def decided(body, text=BETTER, reasons=(), confidence=0.9, **more):
    """What a bridge answers to a request."""
    metrics = {"edits": 1, "chars": 11, "ratio": 0.1, "confidence": confidence, "margin": 0.2, "partition": "novelty",
               "partition_source": "given", "script": "nko"}  # fmt: skip
    rows = [
        {"feat_id": row["feat_id"], "proposal": text, "decision": "reject", "final_text": row["asr_text"],
         "reasons": [{"rule": rule, "said": "x"} for rule in reasons], "metrics": metrics, "token": None,
         "provenance_id": "p"}
        for row in body["rows"]
    ]  # fmt: skip
    return 200, {}, {"request_id": "q", "breaker": None, "rows": rows, "ms": 1.0, **more}


def asked(*texts, **fields):
    return [cases.case_from_text(f"r{number}", text, {"partition": "stable", "script": "nko", **fields})
            for number, text in enumerate(texts)]  # fmt: skip


def made(bridge, rows):
    return list(bridge.propose(rows))


def test_the_proposals_of_another_bridge_and_its_digests(fake):
    fake.answers = [decided]
    bridge = http_proposer.HttpProposer(fake.where, chunk=2)
    got = made(bridge, asked(TEXT, TEXT, " ", TEXT))
    # its gate said no, which counts for nothing here; nothing is asked of no text
    wanted = Proposal(BETTER, math.log(0.9), margin=0.2)
    assert got == [wanted, wanted, Proposal(" "), wanted]
    assert bridge.describe() == {"engine": "http", "base_sha256": "b" * 64, "adapter_sha256": None, "of": "mlx",
                                 "version": "1"}  # fmt: skip
    row = {"feat_id": "r0", "asr_text": TEXT, "partition": "stable", "script": "nko"}
    assert fake.posts[0] == {"rows": [row, row | {"feat_id": "r1"}]} and len(fake.posts) == 2


@pytest.mark.parametrize("reasons, changed", [
    (["unfinished", "edits"], {"finished": False}), (["withheld"], {"accepted": False}), (["edits"], {}),
])  # fmt: skip
def test_what_a_bridge_says_of_its_proposer_is_kept(fake, reasons, changed):
    fake.answers = [lambda body: decided(body, reasons=reasons, confidence=None)]
    [got] = made(http_proposer.HttpProposer(fake.where), asked(TEXT))
    assert got == Proposal(BETTER, None, margin=0.2, **changed)


def test_a_busy_bridge_is_asked_again_and_not_for_ever(fake):
    busy = (429, {"Retry-After": "1"}, {"error": "too many rows wait", "field": None})
    fake.answers = [busy, (503, {}, {"error": "loading: x", "field": None}), decided]
    bridge = http_proposer.HttpProposer(fake.where)
    assert [each.text for each in made(bridge, asked(TEXT))] == [BETTER] and len(fake.posts) == 3
    fake.answers = [busy]
    begun = time.monotonic()
    with pytest.raises(ClusterError, match="busy .429: too many rows wait"):
        made(bridge, asked(TEXT))
    assert time.monotonic() - begun < 30


def test_what_is_too_much_at_once_is_asked_for_in_halves(fake):
    def small(body):
        return decided(body) if len(body["rows"]) <= 2 else (422, {}, {"error": "7 rows; at most 2", "field": "rows"})

    fake.answers = [small]
    assert [each.text for each in made(http_proposer.HttpProposer(fake.where), asked(*[TEXT] * 7))] == [BETTER] * 7
    assert [len(body["rows"]) for body in fake.posts] == [7, 3, 1, 2, 4, 2, 2]


def test_a_request_is_never_larger_than_a_bridge_takes(fake):
    fake.answers = [decided]
    long = "ߓߊ ߟߏ" * 250
    assert len(made(http_proposer.HttpProposer(fake.where, chunk=64), asked(*[long] * 60))) == 60
    sizes = [len(json.dumps(body, ensure_ascii=False).encode()) for body in fake.posts]
    assert max(sizes) <= 65_536 and len(sizes) == math.ceil(60 * sizes[0] / len(fake.posts[0]["rows"]) / 60_000)


@pytest.mark.parametrize("refused", [
    (422, {}, {"error": "99 code points; at most 20", "field": "rows.0.asr_text"}),
    (413, {}, {"error": "the body has more than 65536 bytes", "field": None}),
])  # fmt: skip
def test_a_text_that_is_too_long_for_it_is_left_alone_and_no_other_row(fake, refused):
    def short(body):
        if any(len(row["asr_text"]) > 20 for row in body["rows"]):
            return refused
        return decided(body)

    fake.answers = [short]
    got = made(http_proposer.HttpProposer(fake.where), asked(TEXT, "ߓߊ" * 30, TEXT))
    assert [each.accepted for each in got] == [True, False, True] and got[1].text == "ߓߊ" * 30


@pytest.mark.parametrize("answer, kind, said", [
    ((401, {}, {"error": "a bearer token is needed", "field": None}), UsageError, "--engine-bearer-file"),
    ((302, {"Location": "http://127.0.0.1:9/x"}, b""), ClusterError, "not followed"),
    ((500, {}, {"error": "internal error", "field": None}), ClusterError, "row 'r0': 500"),
    ((404, {}, b"<html>"), ClusterError, "not an answer of a bridge"),
    ((200, {}, b"{}"), RunFailed, "not an answer of a bridge"),
    ((200, {}, b"\xff\x00"), RunFailed, "not an answer of a bridge"),
    ((503, {}, {"error": "failed: no weights", "field": None}), ClusterError, "no weights"),
    (lambda body: decided({"rows": [body["rows"][0] | {"feat_id": "x"}]}), RunFailed, "other rows than the request"),
    (lambda body: decided({"rows": body["rows"] * 2}), RunFailed, "other rows than the request"),
])  # fmt: skip
def test_answers_that_are_none(fake, answer, kind, said):
    fake.answers = [answer]
    with pytest.raises(kind) as caught:
        made(http_proposer.HttpProposer(fake.where, bearer="s" * 32), asked(TEXT))
    assert said in str(caught.value) and "s" * 32 not in str(caught.value)


def test_a_bridge_that_has_failed_or_is_none(fake):
    fake.health = {**HEALTH, "status": "failed", "reason": "no weights"}
    with pytest.raises(ClusterError, match="failed: no weights"):
        http_proposer.HttpProposer(fake.where)
    fake.health = {"hello": "world"}
    with pytest.raises(ClusterError, match="busy|not an answer of a bridge"):
        http_proposer.HttpProposer(fake.where)


def test_other_weights_in_the_middle_are_noticed(fake):
    fake.answers = [decided]
    bridge = http_proposer.HttpProposer(fake.where, chunk=1)
    proposals = bridge.propose(asked(TEXT, TEXT))
    assert next(proposals).text == BETTER
    fake.health["base_digest"] = "c" * 64
    with pytest.raises(RunFailed, match="the model or engine of the bridge has changed"):
        next(proposals)


def test_a_token_goes_to_the_given_address_alone(fake):
    other = Fake()
    try:
        fake.answers = [(307, {"Location": f"http://127.0.0.1:{other.port}/propose"}, b"")]
        bridge = http_proposer.HttpProposer(fake.where, bearer="secret-secret-secret")
        with pytest.raises(ClusterError):
            made(bridge, asked(TEXT))
        assert not other.asked
        assert {headers.get("Authorization") for _, headers, _ in fake.asked} == {"Bearer secret-secret-secret"}
        assert "secret" not in json.dumps(bridge.describe())
    finally:
        other.server.shutdown()
        other.server.server_close()


def test_proxies_of_the_environment_are_not_asked(fake, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    fake.answers = [decided]
    assert len(made(http_proposer.HttpProposer(fake.where, bearer="x" * 16), asked(TEXT))) == 1


def test_an_answer_is_bounded_as_it_is_sent(fake, monkeypatch):
    """A compressed answer is not unpacked, and a longer one than any answer of a bridge is not read to its end."""
    fake.answers = [(200, {"Content-Encoding": "gzip"}, gzip.compress(b" " * (1 << 20)))]
    bridge = http_proposer.HttpProposer(fake.where)
    with pytest.raises(RunFailed, match="not an answer of a bridge"):
        made(bridge, asked(TEXT))
    assert {headers["Accept-Encoding"] for _, headers, _ in fake.asked} == {"identity"}
    fake.answers = [(200, {}, b" " * (1 << 20) + json.dumps(decided({"rows": []})[2]).encode())]
    monkeypatch.setattr(http_proposer, "LARGEST_ANSWER", 1 << 16)
    with pytest.raises(RunFailed, match="not an answer of a bridge"):
        made(bridge, asked(TEXT))


def test_every_request_has_a_connection_of_its_own_and_no_cookies(fake):
    fake.answers = [lambda body: (*decided(body)[:1], {"Set-Cookie": "a=b"}, decided(body)[2])]
    assert len(made(http_proposer.HttpProposer(fake.where, chunk=1), asked(TEXT, TEXT))) == 2
    assert {headers["Connection"] for _, headers, _ in fake.asked} == {"close"}
    assert not any("Cookie" in headers for _, headers, _ in fake.asked)


def test_an_answer_that_trickles_in_has_an_end(fake, monkeypatch):
    monkeypatch.setattr(http_proposer, "ANSWER", 0.3)
    bridge = http_proposer.HttpProposer(fake.where)
    with socket.socket() as slow:
        slow.bind(("127.0.0.1", 0))
        slow.listen()
        ended = threading.Event()
        threading.Thread(target=trickle, args=(slow, ended), daemon=True).start()
        bridge.address = http_proposer.BridgeAddress("http", "127.0.0.1", slow.getsockname()[1], "")
        begun = time.monotonic()
        with pytest.raises(ClusterError, match="not complete after 0.3 s"):
            made(bridge, asked(TEXT))
        assert time.monotonic() - begun < 5
        ended.set()


def trickle(server, ended):
    """Answer each request with a body of a byte every 0.05 s."""
    while not ended.is_set():
        connection, _ = server.accept()
        with connection:
            connection.recv(1 << 16)
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                while not ended.wait(0.05):
                    connection.sendall(b" ")
            except OSError:
                continue


@pytest.mark.parametrize("host", ["::1", "::1%lo"])
def test_an_address_of_ipv6(host):
    with pytest.raises(ClusterError, match="no answer: "):
        http_proposer.HttpProposer(http_proposer.BridgeAddress("http", host, 9, ""))


@pytest.mark.expensive
def test_nobody_there_and_somebody_who_never_answers(capsys, tmp_path):
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        port = mute.getsockname()[1]
        with pytest.raises(ClusterError, match="no answer") as caught:
            http_proposer.HttpProposer(http_proposer.BridgeAddress("http", "127.0.0.1", port, ""))
        assert "curl" in caught.value.fix
        mute.listen()
        begun = time.monotonic()
        with pytest.raises(ClusterError, match="no answer: timed out"):
            http_proposer.HttpProposer(http_proposer.BridgeAddress("http", "127.0.0.1", port, ""))
        assert time.monotonic() - begun < 40
    rows = write_rows(tmp_path / "r.jsonl", [{"asr_text": TEXT}])
    assert main(["agp", "propose", str(rows), "--dev-key", "--engine", f"http://127.0.0.1:{port}",
                 "--log", str(tmp_path / "l")]) == 6  # fmt: skip
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("text, wanted", [
    ("http://mac5.local:9442", "http://mac5.local:9442"), ("http:http://h:1/a/b/", "http://h:1/a/b"),
    ("https://h", "https://h:443"), ("http://h", "http://h:80"), ("http://[::1]:9442", "http://[::1]:9442"),
    ("http:https://h:2", "https://h:2"),
])  # fmt: skip
def test_addresses(text, wanted):
    assert str(http_proposer.parse_address(text)) == wanted
    proposers.check_engine_options(BridgeSettings(engine=text))


@pytest.mark.parametrize("text", [
    "http://", "http:h:1", "http://h:x", "http://h:99999", "http://h:1?x=1", "http://h:1#x", "http://u:p@h:1",
    "http://h h:1", "http://h:1\n", "https:", "ftp://h", "http:ftp://h",
])  # fmt: skip
def test_what_is_no_address(text):
    with pytest.raises(UsageError) as caught:
        proposers.check_engine_options(BridgeSettings(engine=text))
    assert "p@h" not in str(caught.value)


@pytest.mark.expensive
def test_a_real_bridge_before_a_bridge(tmp_path, capsys, monkeypatch):
    """Rows that one bridge proposes for through another are decided as they are with its own engine."""
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "mine"))
    partitions = ("uncertain", "boundary", "stable", "novelty", None)
    rows = write_rows(tmp_path / "rows.jsonl", [
        {"feat_id": f"r{n}", "asr_text": TEXT, **({"partition": name} if name else {})}
        for n, name in enumerate(partitions)
    ])  # fmt: skip
    proposals = write_rows(tmp_path / "p.jsonl", [
        {"id": f"r{n}", "proposal": BETTER, "confidence": -0.05, "margin": 0.2} for n in range(5)
    ])  # fmt: skip
    bearer = tmp_path / "bearer"
    bearer.write_text("0123456789abcdef0123")
    bearer.chmod(0o600)
    with Served(tmp_path, "--engine", f"file:{proposals}", "--bearer-file", str(bearer)) as service:
        until = time.monotonic() + 60
        while service.get("/health")[0] != 401:
            assert time.monotonic() < until
        assert main(["agp", "propose", str(rows), "--dev-key", "--engine", service.url, "--json"]) == 2
        assert "--engine-bearer-file" in capsys.readouterr().err
        found = {}
        words = {"near": [f"file:{proposals}"], "far": [service.url, "--engine-bearer-file", str(bearer)]}
        for name, engine in words.items():
            out = tmp_path / f"{name}.jsonl"
            command = ["agp", "propose", str(rows), "--dev-key", "--out", str(out), "--engine", *engine]
            assert main(command) == 0
            lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
            kept = ("id", "decision", "final_text", "proposal", "partition", "partition_source", "edits", "reasons")
            found[name] = [{key: line[key] for key in kept} for line in lines]
    assert found["near"] == found["far"]
    assert [line["decision"] for line in found["far"]] == ["accept", "accept", "reject", "reject", "reject"]


@pytest.mark.expensive
def test_a_bridge_before_a_bridge_as_a_service(tmp_path):
    """Each decides by itself and signs its own log; the one that proposes may end, and the other says so."""
    folders = [tmp_path / name for name in ("far", "near")]
    for folder in folders:
        folder.mkdir()
    proposals = write_rows(tmp_path / "p.jsonl", [{"id": "a", "proposal": BETTER, "confidence": -0.05, "margin": 0.2}])
    row = {"row": {"feat_id": "a", "asr_text": TEXT, "partition": "uncertain"}}
    with Served(folders[0], "--engine", f"file:{proposals}") as far:
        far.ready()
        with Served(folders[1], "--engine", far.url) as near:
            near.ready()
            code, told = near.post(row)
            assert (code, told["decision"], told["final_text"]) == (200, "accept", BETTER)
            assert near.get("/health")[1]["engine"] == "http"
            assert [far.get("/health")[1]["records"], near.get("/health")[1]["records"]] == [1, 1]
            far.process.kill()
            far.process.wait(20)
            code, told = near.post(row | {"options": {"deadline_ms": 500}})
            assert code == 504 and near.get("/health")[1]["records"] == 1
