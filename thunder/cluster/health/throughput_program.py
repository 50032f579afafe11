"""One end of a throughput measurement; sent over SSH to each host's own Python (3.9 or newer, no packages).

`python -I - QUESTION JSON` prints one line: ANSWER_PREFIX and the answer as JSON. Both ends show a secret token before
any data, so that neither counts a stranger's bytes nor sends data to a stranger.
"""

from __future__ import annotations

import hmac
import json
import socket
import sys
import time

ANSWER_PREFIX = "THUNDER-ANSWER "
ACCEPT_TIMEOUT = 4.0  # seconds that the receiver waits for the sender
CONNECT_TIMEOUT = 2.0  # seconds that the sender tries to reach the receiver
IDLE_TIMEOUT = 1.0  # seconds without a byte, after which the measurement ends
TOKEN_BYTES = 16  # length of the secret token
CHUNK_BYTES = 1 << 20


def receive(ip: str, ports: list, token: str) -> dict:
    """Listen on the first free port, and count the bytes of the caller that knows the token."""
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
    return throughput_result(fault=f"no sender connected to {ip} within {ACCEPT_TIMEOUT:g} s")


def open_listener(ip: str, ports: list) -> socket.socket | None:
    """Return a socket that listens on the first free port; None if no port is free."""
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
    """Return bytes per second from a caller; None if it does not know the token."""
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
        count / took if count and took > 0 else None, fault or (None if count else "no byte arrived")
    )


def receive_exactly(stream: socket.socket, count: int) -> bytes:
    """Return `count` bytes, or fewer if the other end closes."""
    received = b""
    while len(received) < count and (more := stream.recv(count - len(received))):
        received += more
    return received


def send(peer: str, ports: list, token: str, seconds: float) -> dict:
    """Find the receiver on one of the ports, and send for `seconds`."""
    word, piece = bytes.fromhex(token), memoryview(bytes(CHUNK_BYTES))
    until, fault = time.monotonic() + CONNECT_TIMEOUT, "no receiver listens"
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
    """Return the answer; the receiver's count is the valid one."""
    return {"bytes_per_second": bytes_per_second, "fault": fault}


def main() -> None:
    """Run the end that the command line names."""
    answer = {"receive": receive, "send": send}[sys.argv[1]](**json.loads(sys.argv[2]))
    print(f"\n{ANSWER_PREFIX}{json.dumps(answer)}", flush=True)


if __name__ == "__main__":
    main()
