"""Measure the HTTP bridge under load, and the gain of concurrent requests over one at a time.

python benchmarks/bridge.py [--seconds 60] [--clients 64] [--rows 60]

For each engine (identity, the shipped tiny model): so many clients ask without a pause for so long; printed are
requests a second, p50 and p99 of their time, and errors by code. Then the same rows are asked one request at a time and
all together, and the answers compared; the service's processor seconds are printed too, since what else runs on a
machine counts little in them. Service and clients share the machine. The log is verified at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from thunder.bridge.proof import keys, provenance
from thunder.config import REPOSITORY

ROWS = REPOSITORY / "data" / "sample" / "test.jsonl"
PARTITIONS = ("boundary", "uncertain", "stable", "novelty")


def rows() -> list[dict[str, Any]]:
    """The sample's test rows, each in one of the partitions."""
    lines = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    return [
        {"feat_id": line["id"], "asr_text": line["asr_text"], "partition": partition}
        for line, partition in zip(lines, itertools.cycle(PARTITIONS), strict=False)
    ]


@contextmanager
def service(folder: Path, *words: str) -> Iterator[dict[str, Any]]:
    """A running service and its address; afterwards it ends, and its log must be valid."""
    command = [sys.executable, "-P", "-m", "thunder", "agp", "serve", "--json", "--port", "0", "--dev-key"]
    command += ["--log", str(folder / "provenance.jsonl"), "--deadline", "120", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(REPOSITORY)})
    assert process.stdout is not None
    try:
        where = json.loads(process.stdout.readline())
        asyncio.run(ready(where))
        yield where
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait(20)
    assert str(provenance.verify_log(folder / "provenance.jsonl", keys.DEV_RING)) == "ok"


class Client:
    """One connection for consecutive requests."""

    def __init__(self, where: dict[str, Any]) -> None:
        self.where = where

    async def __aenter__(self) -> Client:
        self.reader, self.writer = await asyncio.open_connection(self.where["host"], self.where["port"])
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def ask(self, method: str, path: str, content: Any = None) -> tuple[int, dict[str, Any]]:
        """The status and the body of an answer."""
        body = b"" if content is None else json.dumps(content).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        self.writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
        return int(lines[0].split()[1]), json.loads(await self.reader.readexactly(length))


async def ready(where: dict[str, Any]) -> None:
    """Wait for the model."""
    async with Client(where) as client:
        while (await client.ask("GET", "/health"))[0] != 200:
            await asyncio.sleep(0.1)


async def load(where: dict[str, Any], clients: int, seconds: float) -> tuple[list[float], Counter[int], float]:
    """Seconds of every answered request, answers by status, and the total time."""
    asked, times, codes = itertools.cycle(rows()), [], Counter()
    begun = time.perf_counter()

    async def one() -> None:
        async with Client(where) as client:
            while (start := time.perf_counter()) < begun + seconds:
                code, _ = await client.ask("POST", "/propose", {"row": next(asked)})
                codes[code] += 1
                if code == 200:
                    times.append(time.perf_counter() - start)
                else:
                    await asyncio.sleep(0.05)

    await asyncio.gather(*(one() for _ in range(clients)))
    return times, codes, time.perf_counter() - begun


async def answers(where: dict[str, Any], asked: list[dict[str, Any]], clients: int) -> tuple[list[Any], Spent]:
    """The answer to each row, with this many clients, and the time that the service took."""
    found: list[Any] = [None] * len(asked)
    left = iter(enumerate(asked))

    async def one() -> None:
        async with Client(where) as client:
            for place, row in left:
                code, told = await client.ask("POST", "/propose", {"row": row})
                assert code == 200, told
                found[place] = [told["proposal"], told["decision"], told["final_text"]]

    begun = spent(where)
    await asyncio.gather(*(one() for _ in range(clients)))
    ended = spent(where)
    return found, Spent(ended.wall - begun.wall, ended.processor - begun.processor)


class Spent(NamedTuple):
    """Seconds."""

    wall: float
    processor: float

    def __str__(self) -> str:
        return f"{self.wall:.2f} s ({self.processor:.2f} s of the processor)"


def spent(where: dict[str, Any]) -> Spent:
    """The time, and the processor time of the service."""
    times = psutil.Process(where["pid"]).cpu_times()
    return Spent(time.perf_counter(), times.user + times.system)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--engines", nargs="*", default=["identity", "tiny model"], help="To put under load.")
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    together = ["--batch-size", "64", "--linger-ms", "10"]
    engines = {"identity": ["--engine", "identity"], "tiny model": ["--engine", "mlx", *together]}
    with tempfile.TemporaryDirectory(prefix="thunder-bench-") as name:
        for engine, words in engines.items():
            if engine not in given.engines:
                continue
            with service(Path(name), *words) as where:
                begun = spent(where)
                times, codes, seconds = asyncio.run(load(where, given.clients, given.seconds))
                each = 1000 * (spent(where).processor - begun.processor) / len(times)
            cuts = statistics.quantiles(times, n=100)
            print(
                f"{engine}, {given.clients} clients, {seconds:.0f} s: {len(times) / seconds:.1f} requests/s, "
                f"p50 {1000 * cuts[49]:.0f} ms, p99 {1000 * cuts[98]:.0f} ms, codes {dict(codes)}, "
                f"{each:.1f} ms of the processor each",
                flush=True,
            )
        asked, ratios = list(itertools.islice(itertools.cycle(rows()), given.rows)), []
        with service(Path(name), *engines["tiny model"]) as where:
            asyncio.run(answers(where, asked[:8], 8))  # warm up: compiles once
            for turn in range(given.turns):
                alone, one_by_one = asyncio.run(answers(where, asked, 1))
                shared, at_once = asyncio.run(answers(where, asked, given.clients))
                assert alone == shared, "other answers together than alone"
                ratios.append([one / all_ for one, all_ in zip(one_by_one, at_once, strict=True)])
                print(f"turn {turn + 1}: {given.rows} rows one by one {one_by_one}, together {at_once}", flush=True)
    if not ratios:
        return
    wall, processor = (statistics.median(each) for each in zip(*ratios, strict=True))
    print(f"together / one at a time, same answers: {wall:.2f} times the rows per second,")
    print(f"{processor:.2f} times the rows per second of the processor")


if __name__ == "__main__":
    main()
