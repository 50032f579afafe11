"""One end of a measurement between two hosts: sent over ssh to each host's own Python (3.9 or newer, no packages).

`python -I - QUESTION JSON` prints one line, MARK and the answer as JSON. Both ends show a secret word before any data,
so that neither counts bytes of a stranger nor sends them to one.
"""

from __future__ import annotations

import hmac
import json
import socket
import sys
import time

ANSWER_PREFIX = "THUNDER-ANSWER "
ACCEPT_TIMEOUT = 4.0  # seconds to wait for the sender
CONNECT_TIMEOUT = 2.0  # seconds for which the sender looks for the receiver
IDLE_TIMEOUT = 1.0  # seconds without a byte after which the other end is given up
TOKEN_BYTES = 16  # bytes of the secret word
CHUNK_BYTES = 1 << 20


def receive(ip: str, ports: list, token: str) -> dict:
    """Listen on the first of the ports that is free, and count what the one who knows the word sends."""
    until = time.monotonic() + ACCEPT_TIMEOUT
    listener = open_listener(ip, ports)
    if listener is None:
        return throughput_result(fault=f"none of the ports {', '.join(map(str, ports))} can be listened on at {ip}")
    with listener:
        while (left := until - time.monotonic()) > 0:
            listener.settimeout(left)
            try:
                caller, _ = listener.accept()
            except OSError:
                break
            with caller:
                counted = count_bytes(caller, bytes.fromhex(token))
            if counted:
                return counted
    return throughput_result(fault=f"nobody came to {ip} within {ACCEPT_TIMEOUT:g} s")


def open_listener(ip: str, ports: list) -> socket.socket | None:
    """A socket that listens on the first port that is free; None where none is."""
    for port in ports:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.bind((ip, port))
            listener.listen(4)
            return listener
        except OSError:
            listener.close()
    return None


def count_bytes(caller: socket.socket, word: bytes) -> dict | None:
    """Bytes a second from a caller; None where it does not know the word."""
    caller.settimeout(IDLE_TIMEOUT)
    room = bytearray(CHUNK_BYTES)
    count, fault = 0, None
    try:
        if not hmac.compare_digest(receive_exactly(caller, TOKEN_BYTES), word):
            return None
        caller.sendall(word[::-1])
        begun = ended = time.monotonic()
        while got := caller.recv_into(room):
            count += got
            ended = time.monotonic()
    except OSError as error:
        fault = f"cut off after {count} bytes: {error}"
        if not count:
            return None
    took = ended - begun
    return throughput_result(
        count / took if count and took > 0 else None, fault or (None if count else "not a byte came")
    )


def receive_exactly(stream: socket.socket, count: int) -> bytes:
    """So many bytes, or fewer where the other end has no more."""
    received = b""
    while len(received) < count and (more := stream.recv(count - len(received))):
        received += more
    return received


def send(peer: str, ports: list, token: str, seconds: float) -> dict:
    """Find the receiver behind one of the ports, and send for so long."""
    word, piece = bytes.fromhex(token), memoryview(bytes(CHUNK_BYTES))
    until, fault = time.monotonic() + CONNECT_TIMEOUT, "nobody listens"
    while time.monotonic() < until:
        for port in ports:
            try:
                with socket.create_connection((peer, port), max(0.1, until - time.monotonic())) as stream:
                    stream.settimeout(IDLE_TIMEOUT)
                    stream.sendall(word)
                    if receive_exactly(stream, TOKEN_BYTES) != word[::-1]:
                        fault = f"a stranger listens on port {port}"
                        continue
                    end = time.monotonic() + seconds
                    while time.monotonic() < end:
                        stream.sendall(piece)
                    return throughput_result()
            except OSError as error:
                fault = str(error)
        time.sleep(0.02)
    return throughput_result(fault=f"{peer} is not reached: {fault}")


def throughput_result(bytes_per_second: float | None = None, fault: str | None = None) -> dict:
    """What came of it; the receiver's count is the answer."""
    return {"bytes_per_second": bytes_per_second, "fault": fault}


def main() -> None:
    """Be the end that the command line asks for."""
    answer = {"receive": receive, "send": send}[sys.argv[1]](**json.loads(sys.argv[2]))
    print(f"\n{ANSWER_PREFIX}{json.dumps(answer)}", flush=True)


if __name__ == "__main__":
    main()
