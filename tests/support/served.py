"""A service in a process of its own, for tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path


class Served:
    """`thunder agp serve --json` with some options; to be used in a `with`."""

    def __init__(self, folder: Path, *words: str) -> None:
        command = [sys.executable, "-P", "-m", "thunder", "agp", "serve", "--json", "--port", "0", "--dev-key"]
        environ = os.environ | {"THUNDER_RUNS": str(folder / "runs")}
        self.errors = (folder / "errors.txt").open("ab")
        self.process = subprocess.Popen([*command, *words], env=environ, stdout=subprocess.PIPE, stderr=self.errors)
        line = self.process.stdout.readline()
        assert line, (folder / "errors.txt").read_text(encoding="utf-8")
        self.told = json.loads(line)
        assert "url" in self.told, self.told
        self.url, self.log = self.told["url"], Path(self.told["log"])

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(20)
        self.process.stdout.close()
        self.errors.close()

    def ready(self, seconds: float = 110) -> Served:
        until = time.monotonic() + seconds
        while self.get("/health")[1].get("status") != "ok":
            assert time.monotonic() < until and self.process.poll() is None
            time.sleep(0.05)
        return self

    def get(self, path: str, timeout: float = 30) -> tuple[int, dict]:
        return self._ask(urllib.request.Request(self.url + path), timeout)

    def post(self, content: object, timeout: float = 30) -> tuple[int, dict]:
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.url + "/propose", json.dumps(content).encode(), headers)
        return self._ask(request, timeout)

    @staticmethod
    def _ask(request: urllib.request.Request, timeout: float) -> tuple[int, dict]:
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
