"""Stands in for the `vastai` program and the machines behind it; its state lies in a folder, its faults in a list.

A fault is {"command": "create instance", "nth": 1, "times": 1, "how": ...}: `error` does nothing and fails; `late` does
it and fails all the same; `nonsense` answers no JSON; `unseen` leaves new machines out of the list.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

OFFERS = [
    {"id": number, "gpu_name": gpu, "num_gpus": count, "dph_total": price, "reliability2": 0.99, "disk_space": 900}
    for number, gpu, count, price in ((71, "A100 SXM4", 1, 0.8), (72, "A100 PCIE", 1, 0.6), (73, "A100 PCIE", 2, 0.1))
]


class FakeVast:
    """The service: offers, machines with disks, a run that ends after some looks at its log."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "state.json"
        fresh = {"machines": {}, "calls": [], "next": 500, "faults": [], "looks": 3, "code": 0, "nan": False, "die": 0}
        self.state = json.loads(self.file.read_text()) if self.file.is_file() else fresh

    def keep(self) -> None:
        self.file.write_text(json.dumps(self.state))

    def running(self) -> list[str]:
        return [number for number, one in self.state["machines"].items() if one["status"] == "running"]

    def handle(self, words: list[str]) -> tuple[int, str]:
        """(exit code, what is said) of one call."""
        command = " ".join(words[: 1 if words[0] in ("logs", "copy") else 2])
        self.state["calls"].append(command)
        count = self.state["calls"].count(command)
        fault = next((one["how"] for one in self.state["faults"] if one["command"] == command
                      and one.get("nth", 1) <= count < one.get("nth", 1) + one.get("times", 1)), None)  # fmt: skip
        if fault == "error":
            return self._end(1, f"failed with error 502: Bad Gateway for key {os.environ.get('VAST_API_KEY', '')}")
        code, said = getattr(self, "_" + command.replace(" ", "_"))(words)
        if fault == "late":
            return self._end(1, "failed with error 504: Gateway Timeout")
        if fault == "unseen":
            return self._end(0, "[]")
        return self._end(0, "<html>busy</html>") if fault == "nonsense" else self._end(code, said)

    def _end(self, code: int, said: str) -> tuple[int, str]:
        self.keep()
        return code, said

    def _search_offers(self, words):
        return 0, json.dumps(OFFERS)

    def _create_instance(self, words):
        number = str(self.state["next"])
        self.state["next"] += 1
        said = dict(zip(words, words[1:], strict=False))
        offer = next(one for one in OFFERS if str(one["id"]) == words[2])
        self.state["machines"][number] = {"id": int(number), "label": said["--label"], "status": "loading", "seen": 0,
                                          "dph_total": offer["dph_total"], "looks": 0}  # fmt: skip
        return 0, json.dumps({"success": True, "new_contract": int(number)})

    def _show_instances(self, words):
        for one in self.state["machines"].values():
            one["seen"] += 1
            if one["status"] == "loading" and one["seen"] > 1:
                one["status"] = "offline" if self.state.get("never_up") else "running"
        return 0, json.dumps([{"id": one["id"], "label": one["label"], "actual_status": one["status"],
                               "dph_total": one["dph_total"]} for one in self.state["machines"].values()])  # fmt: skip

    def _disk(self, number: str) -> Path:
        return self.folder / "disks" / number

    def _logs(self, words):
        one = self.state["machines"].get(words[1])
        if one is None:
            return 1, f"instance {words[1]} not found"
        disk = self._disk(words[1])
        if one["status"] != "running" or not (disk / "workspace/in/GO").is_file():
            return 0, "waiting\n"
        one["looks"] += 1
        loss = "NaN" if self.state["nan"] else "1.0"
        said = [f'thunder: beat {look} {{"loss": {loss}}}' for look in range(one["looks"])]
        if self.state["die"] and one["looks"] >= self.state["die"]:
            one["status"] = "exited"
        elif self.state.get("stalls"):
            said = said[:1]
        elif one["looks"] >= self.state["looks"]:
            run = (disk / "workspace/in/GO").read_text().strip()
            there = disk / "workspace/runs" / run
            if not there.exists():
                shutil.copytree(self.folder / "made", there)
                if self.state.get("torn"):
                    (there / "test_predictions.jsonl").write_text("")
            said.append(f"thunder: ended {self.state['code']}")
        return 0, "\n".join(said)

    def _copy(self, words):
        ends = []
        for word in words[1:3]:
            if word.startswith("local:"):
                ends.append(Path(word.removeprefix("local:")))
            else:
                number, _, path = word.removeprefix("C.").partition(":")
                if number not in self.state["machines"]:
                    return 1, f"instance {number} not found"
                ends.append(self._disk(number) / path.lstrip("/"))
        source, there = ends
        if not source.exists():
            return 23, f"rsync: {source} failed: No such file"
        there.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            # as rsync does with a folder: it lands inside one that is there
            shutil.copytree(source, there / source.name if there.is_dir() else there, dirs_exist_ok=True)
        else:
            data = source.read_bytes()
            shutil.copy(source, there)
            if self.state.get("garbles"):
                there.write_bytes(data[:-1])
        return 0, ""

    def _stop_instance(self, words):
        one = self.state["machines"].get(words[2])
        if one is None:
            return 1, f"instance {words[2]} not found"
        one["status"] = "stopped"
        return 0, "stopping"

    def _destroy_instance(self, words):
        if self.state["machines"].pop(words[2], None) is None:
            return 1, f"failed: no such instance {words[2]}"
        return 0, "destroying"


def main() -> None:
    code, said = FakeVast(Path(os.environ["FAKE_VAST"])).handle(sys.argv[1:])
    print(said, file=sys.stderr if code else sys.stdout)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
