"""The program that measures throughput: both ends find each other, and strangers are neither counted nor served."""

import secrets
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from thunder.cluster.health import throughput_program
from thunder.cluster.inventory import ports

HERE = "127.0.0.1"
TOKEN = secrets.token_hex(16)


@pytest.fixture
def receiving(monkeypatch):
    """A receiver in a thread, that waits a second at most; its ports and its answer to come."""
    monkeypatch.setattr(throughput_program, "ACCEPT_TIMEOUT", 1.0)
    wanted = ports.free_ports(2)
    with ThreadPoolExecutor() as pool:
        yield wanted, pool.submit(throughput_program.receive, HERE, wanted, TOKEN)


def connected(port):
    for _ in range(100):
        try:
            return socket.create_connection((HERE, port), 2)
        except OSError:
            time.sleep(0.01)
    raise TimeoutError


def test_the_count_is_what_was_sent_over_the_time_it_took(receiving):
    wanted, answer = receiving
    pieces, pause = 8, 0.05
    with connected(wanted[0]) as stream:
        stream.sendall(bytes.fromhex(TOKEN))
        assert throughput_program.receive_exactly(stream, 16) == bytes.fromhex(TOKEN)[::-1]
        begun = time.monotonic()
        for _ in range(pieces):
            stream.sendall(bytes(100_000))
            time.sleep(pause)
        took = time.monotonic() - begun
    said = answer.result(5)
    assert said["fault"] is None
    assert said["bytes_per_second"] == pytest.approx(pieces * 100_000 / took, rel=0.35)


def test_both_ends_find_each_other_whichever_is_first(receiving):
    wanted, answer = receiving
    taken = ports.free_ports(1, exclude=wanted)
    assert throughput_program.send(HERE, [*taken, *wanted], TOKEN, 0.05) == {"bytes_per_second": None, "fault": None}
    assert answer.result(5)["bytes_per_second"] > 1e6


def test_a_stranger_is_not_counted(receiving):
    wanted, answer = receiving
    with connected(wanted[0]) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n" + bytes(1000))
        assert throughput_program.send(HERE, wanted, TOKEN, 0.02)["fault"] is None, "and does not stop the true one"
    assert answer.result(5)["bytes_per_second"]


def test_nothing_is_sent_to_a_stranger(monkeypatch):
    monkeypatch.setattr(throughput_program, "CONNECT_TIMEOUT", 0.3)
    got = bytearray()
    with socket.create_server((HERE, 0)) as stranger:

        def listen():
            while True:
                try:
                    caller, _ = stranger.accept()
                except OSError:
                    return
                with caller:
                    caller.settimeout(1)
                    got.extend(caller.recv(1000))
                    caller.sendall(b"x" * 16)
                    got.extend(caller.recv(1000))

        threading.Thread(target=listen, daemon=True).start()
        port = stranger.getsockname()[1]
        assert f"a stranger listens on port {port}" in throughput_program.send(HERE, [port], TOKEN, 0.1)["fault"]
        stranger.shutdown(socket.SHUT_RDWR)
    assert set(got[i : i + 16].hex() for i in range(0, len(got), 16)) == {TOKEN}


@pytest.mark.expensive
def test_nobody_there(receiving, monkeypatch):
    wanted, answer = receiving
    assert "no sender connected" in answer.result(5)["fault"]
    monkeypatch.setattr(throughput_program, "CONNECT_TIMEOUT", 0.1)
    assert "refused" in throughput_program.send(HERE, wanted, TOKEN, 0.1)["fault"]


def test_no_port_is_free():
    with socket.create_server((HERE, 0)) as taken:
        port = taken.getsockname()[1]
        assert f"none of the ports {port}" in throughput_program.receive(HERE, [port], TOKEN)["fault"]


def test_a_sender_that_says_nothing_more_is_given_up(receiving, monkeypatch):
    monkeypatch.setattr(throughput_program, "IDLE_TIMEOUT", 0.2)
    wanted, answer = receiving
    with connected(wanted[0]) as stream:
        stream.sendall(bytes.fromhex(TOKEN) + bytes(1000))
        assert "cut off after 1000 bytes" in answer.result(5)["fault"]
