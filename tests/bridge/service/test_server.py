"""The service as a process: signals, ports, kill -9 under load, and fuzzing by its own description."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from served import Served

from thunder.bridge.bridge_settings import ServeSettings
from thunder.bridge.proof import keys, provenance
from thunder.bridge.service import server
from thunder.cli.main import main
from thunder.errors import UsageError

pytestmark = pytest.mark.expensive

TEXT = "ߣߋߤߍߛߍ ߡߌ ߓ"


@pytest.fixture
def served(tmp_path):
    """Starts services that end with the test."""
    started = []

    def start(*words):
        started.append(Served(tmp_path, *words))
        return started[-1]

    yield start
    for each in started:
        each.__exit__()


def row(number, partition="stable"):
    return {"request_id": f"q{number}", "row": {"feat_id": f"f{number}", "asr_text": TEXT, "partition": partition}}


def test_sigterm_answers_what_is_in_flight_and_ends_with_0(served, tiny_model):
    service = served("--engine", "mlx", "--model", str(tiny_model), "--batch-size", "2", "--linger-ms", "0").ready()
    answers = []
    threads = [threading.Thread(target=lambda n=n: answers.append(service.post(row(n), 60))) for n in range(8)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 60
    while service.get("/health")[1]["requests"] < 8:
        assert time.monotonic() < until
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(60) == 0
    for thread in threads:
        thread.join(30)
    assert [code for code, _ in answers] == [200] * 8
    assert provenance.verify_log(service.log, keys.DEV_RING).lines == 8
    assert "Traceback" not in (service.log.parents[2] / "errors.txt").read_text(encoding="utf-8")


def test_ctrl_c_ends_with_130(served):
    service = served("--engine", "identity").ready()
    assert service.told["signing"] == service.get("/health")[1]["signing"] == "dev"
    service.process.send_signal(signal.SIGINT)
    assert service.process.wait(30) == 130


def test_a_port_that_is_taken(tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        words = ["--dev-key", "--engine", "identity", "--log", str(tmp_path / "l.jsonl"), "--port", str(port)]
        assert main(["agp", "serve", *words]) == 6
    assert f"port {port}" in capsys.readouterr().err


@pytest.mark.parametrize("words, fault", [
    (["--engine", "identity"], "no key to sign with"), (["--engine", "gpt", "--dev-key"], "no such engine"),
    (["--engine", "file", "--dev-key"], "no such engine"), (["--engine", "mlx:x", "--dev-key"], "no such engine"),
    (["--engine", "identity", "--model", "x", "--dev-key"], "uses no model"),
    (["--engine", "identity", "--host", "0.0.0.0", "--dev-key"], "without a token"),
    (["--engine", "identity", "--bearer-file", "none", "--dev-key"], "No such file"),
    (["--engine", "identity", "--queue", "0", "--dev-key"], "'queue'"),
    (["--engine", "identity", "--gate-rules", "none.yaml", "--dev-key"], "No such file"),
])  # fmt: skip
def test_what_is_not_served(tmp_path, capsys, monkeypatch, words, fault):
    monkeypatch.delenv(keys.KEY_FILE_VARIABLE, raising=False)
    assert main(["agp", "serve", "--port", "0", "--log", str(tmp_path / "l.jsonl"), *words]) == 2
    said = capsys.readouterr().err
    assert fault in said and "Traceback" not in said


def test_the_bearer_file(tmp_path):
    path = tmp_path / "bearer"
    path.write_text("0123456789abcdef\n")
    path.chmod(0o640)
    asked = ServeSettings(host="0.0.0.0", bearer_file=str(path))
    with pytest.raises(UsageError, match="mode 0640"):
        server.required_bearer_token(asked)
    path.chmod(0o600)
    assert server.required_bearer_token(asked) == "0123456789abcdef"
    for text in ("short", "0123456789 abcdef", "0123456789abcdé", ""):
        path.write_text(text)
        with pytest.raises(UsageError):
            server.required_bearer_token(asked)


def test_a_request_that_never_begins_does_not_hold_its_connection(served):
    """Nothing, half a head, and half a second head; one that is being answered is left alone."""
    service = served("--engine", "identity", "--deadline", "0.5").ready()
    whole = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for data in (b"", b"POST /propose HTT"):
        begun = time.monotonic()
        assert raw(service, data) == b"" and time.monotonic() - begun < 40
    with socket.create_connection((service.told["host"], service.told["port"]), timeout=40) as connection:
        connection.sendall(whole)
        answer = HTTPResponse(connection)
        answer.begin()
        assert answer.status == 200 and json.loads(answer.read())["status"] == "ok"
        connection.sendall(b"GET /he")
        assert connection.recv(65536) == b""
    slow = b"POST /propose HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\nab"
    assert b" 408 " in raw(service, slow).split(b"\r\n")[0]
    assert service.get("/health")[1]["status"] == "ok"


def test_connections_that_say_nothing_keep_nobody_from_being_answered_or_the_service_from_ending(served):
    service = served("--engine", "identity", "--deadline", "2", "--drain", "4").ready()
    where = (service.told["host"], service.told["port"])
    head = (
        b"POST /propose HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\nabc"
    )
    with contextlib.ExitStack() as held:
        mute = [held.enter_context(socket.create_connection(where, timeout=20)) for _ in range(150)]
        for connection in mute[:50]:
            connection.sendall(head)
        assert service.post(row(1))[0] == 200
        begun = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(60) == 0 and time.monotonic() - begun < 40
    assert provenance.verify_log(service.log, keys.DEV_RING).lines == 1


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no limit on the size of files here")
def test_a_log_that_cannot_grow_stops_decisions_and_is_whole(served, tmp_path):
    """A limit on the size of files in the place of a full disk."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        service = served("--engine", "identity").ready()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    codes = [service.post(row(number))[0] for number in range(40)]
    told = codes.count(200)
    assert codes == [200] * told + [503] * (40 - told) and 1 < told < 40
    chain = provenance.verify_log(service.log, keys.DEV_RING)
    assert (str(chain), chain.lines) == ("ok", told)


def raw(service, data, close=False):
    """What comes back for bytes on a connection of their own."""
    with socket.create_connection((service.told["host"], service.told["port"]), timeout=20) as connection:
        connection.sendall(data)
        if close:
            return b""
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
            if b'"field"' in part:
                break
        return b"".join(parts)


def test_connections_that_break_stall_or_make_no_sense(served, tmp_path):
    service = served("--engine", "identity", "--deadline", "1").ready()
    head = b"POST /propose HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
    raw(service, head + b'{"row"', close=True)
    assert raw(service, head + b'{"row"').startswith(b"HTTP/1.1 408 ")
    assert raw(service, b"NONSENSE\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert service.post(row(1))[0] == 200
    assert "Traceback" not in (tmp_path / "errors.txt").read_text(encoding="utf-8")


def hammer(service, stop, told, numbers):
    """Ask until told to stop; keep what was answered."""
    while not stop.is_set():
        try:
            code, answer = service.post(row(next(numbers)), 10)
        except (OSError, HTTPException, urllib.error.URLError, ValueError):
            continue
        if code == 200:
            told.append(answer)


@pytest.mark.parametrize("rounds", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_kill_9_under_load_loses_no_decision_that_was_answered(served, tmp_path, rounds):
    draw, told, lines = random.Random(rounds), [], 0
    numbers = iter(range(10**9))
    for _ in range(rounds):
        service, stop = served("--engine", "identity").ready(), threading.Event()
        assert service.told["records"] >= lines
        threads = [threading.Thread(target=hammer, args=(service, stop, told, numbers)) for _ in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(0.3 + draw.random())
        service.process.kill()
        service.process.wait(20)
        stop.set()
        for thread in threads:
            thread.join(30)
        lines = provenance.verify_log(service.log, keys.DEV_RING).lines
    last = served("--engine", "identity").ready()
    assert last.post(row(0))[0] == 200
    last.process.kill()
    last.process.wait(20)
    assert str(provenance.verify_log(last.log, keys.DEV_RING)) == "ok"
    held = {each["rid"]: each for _, each in provenance.read_records(last.log) if each and each["kind"] == "decision"}
    assert len(told) > 20 * rounds
    for answer in told:
        record = held[answer["provenance_id"]]
        assert (record["row_id"], record["output"]) == (answer["feat_id"], answer["final_text"])
        assert answer["token"] and record["decision"] == "keep"


def test_a_log_that_was_cut_off_is_mended_and_the_start_says_so(served, tmp_path):
    first = served("--engine", "identity").ready()
    first.post(row(1))
    first.process.kill()
    first.process.wait(20)
    with first.log.open("ab") as stream:
        stream.write(b'{"kid":"d')
    again = served("--engine", "identity")
    assert "line 2 was incomplete: its 9 bytes are now in provenance.jsonl.torn-2-" in again.told["repaired"]
    damaged = again.log.read_bytes().replace(b"keep", b"kept", 1)
    again.process.kill()
    again.process.wait(20)
    again.log.write_bytes(damaged)
    with pytest.raises(AssertionError, match="provenance.jsonl:1: its digest does not match"):
        served("--engine", "identity")


@pytest.mark.parametrize("examples", [6, pytest.param(150, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
@pytest.mark.filterwarnings("ignore")
def test_fuzzed_by_its_own_description(served, examples):
    """Every answer has a status and a shape that the description names; none is 500 or more."""
    schemathesis = pytest.importorskip("schemathesis")
    service = served("--engine", "identity", "--queue", "100000").ready()
    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    counts = {}
    for operation in schema.get_all_operations():
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            # a request without any parameter cannot be made wrong
            with contextlib.suppress(Unsatisfiable):
                ask_all(operation.ok().as_strategy(generation_mode=mode), examples, counts, mode)
    assert counts[schemathesis.GenerationMode.POSITIVE, 200] >= examples // 2
    print(json.dumps({f"{mode.value} {status}": count for (mode, status), count in counts.items()}))
    assert not [status for _, status in counts if status >= 500]
    assert service.get("/health")[0] == 200


def ask_all(strategy, examples, counts, mode):
    @settings(max_examples=examples, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def ask(case):
        answer = case.call_and_validate(timeout=20)
        counts[mode, answer.status_code] = counts.get((mode, answer.status_code), 0) + 1

    ask()
