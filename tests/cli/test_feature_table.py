"""What the tools of records promise, a row each: the command on its fixture, the verdict's words, the exit code."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import planted_runs
import planted_worlds
import pytest
from conftest import REPOSITORY
from fakes.fake_vast import FakeVast

from thunder.cli.commands.records import gpu
from thunder.cli.main import main
from thunder.rental.rental_lane import RentalSession
from thunder.runs.bundles import bundle
from thunder.runs.matrix import matrix_spec

TESTS = REPOSITORY / "tests"


@pytest.fixture
def fixtures(tmp_path, monkeypatch):
    """A copy of tests/fixtures: commands write beside what they read."""
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    return shutil.copytree(TESTS / "fixtures", tmp_path / "fixtures")


@pytest.fixture
def asked(capsys):
    """(exit code, everything that was printed) of a command."""

    def ask(*words: object) -> tuple[int, str]:
        code = main([str(word) for word in words])
        told = capsys.readouterr()
        return code, told.out + told.err

    return ask


# S11


def test_memcheck_tells_four_planted_worlds_apart(fixtures, asked):
    """The logs of tests/support/planted_worlds.py as they were written; test_memorization.py trains them anew."""
    wanted = {"healthy": (0, "healthy"), "leak": (3, "leak_suspected"), "overfit": (0, "overfit"),
              "placeholder": (4, "invalid_training")}  # fmt: skip
    found = {name: asked("memcheck", fixtures / name) for name in wanted}
    for name, (code, verdict) in wanted.items():
        assert found[name][0] == code and f"verdict: {verdict}\n" in found[name][1]
        assert json.loads((fixtures / name / "memcheck.json").read_text())["verdict"] == verdict
    assert len({verdict for _, verdict in wanted.values()}) == 4


def test_memcheck_suspects_the_published_run(fixtures, asked):
    code, said = asked("memcheck", fixtures / "note003" / "1x")
    assert code == 3 and "verdict: leak_suspected\n" in said and "\nF7  the best epoch, " in said
    code, said = asked("memcheck", fixtures / "note003" / "4x")
    assert code == 3 and "further passes start at epoch: 4.53, 9.07; best epoch: 4" in said


# S12


def changed_at(path: Path, place: int) -> None:
    """What `printf '\\xNN' | dd of=FILE bs=1 seek=PLACE conv=notrunc` does."""
    path.chmod(0o600)
    with path.open("r+b") as stream:
        stream.seek(place)
        byte = stream.read(1)[0]
        stream.seek(place)
        stream.write(bytes([byte ^ 1]))


@pytest.mark.expensive
def test_ckpt_verify_names_the_tensor_of_a_flipped_bit(tmp_path, monkeypatch, asked):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path))
    run = planted_runs.recognizer_run(tmp_path)
    bundle.seal_bundle(run)
    for sealed, place in ((run / "best.safetensors", 400), (trained(tmp_path), 1000)):
        assert asked("ckpt", "verify", sealed)[0] == 0
        assert sealed.stat().st_size > place
        changed_at(sealed, place)
        code, said = asked("ckpt", "verify", sealed)
        assert code == 4 and "digests: " in said and "layer" in said


def trained(root: Path) -> Path:
    """Weights of a checkpoint that the loop wrote."""
    return next((planted_worlds.train(root, "leak") / "checkpoints").glob("step-*/weights.safetensors"))


# S13


def test_the_published_hypothesis_is_void_and_none_may_change_after_the_run(fixtures, asked):
    code, said = asked("hypothesis", "eval", fixtures / "lr_budget.json")
    assert code == 3 and "\nvoid: treatment not applied" in said
    path = fixtures / "lr_budget.json"
    path.write_text(path.read_text().replace("9.7", "9.8"))
    code, said = asked("hypothesis", "eval", path)
    assert code == 4 and "changed since it was frozen" in said


# S14


def test_matrix_check_finds_the_published_hole(fixtures, asked):
    code, said = asked("matrix", "check", fixtures / "safe_matrix.json")
    assert code == 3 and "add nko_trajectory_290596: " in said


# S15


def test_drift_cannot_attribute_the_published_pair(fixtures, asked):
    note = fixtures / "note000"
    code, said = asked("drift", note / "anchor", note / "safe")
    assert code == 3 and "\nnot_comparable: " in said and "cannot attribute" in said
    factors = [line for line in said.splitlines() if line.startswith("FACTOR")]
    assert len(factors) >= 3
    for words in ("lr (0.0003 vs 0.0001)", "patience (10, effective 8 vs 8)", "use_ttt (no vs yes)"):
        assert any(words in line for line in factors)
    assert any(line.startswith("warning  conflict") and "it stopped as by 8" in line for line in said.splitlines())
    code, said = asked("drift", note / "anchor", note / "anchor")
    assert code == 0 and "\ncomparable" in f"\n{said}"


# S16


def test_bundle_verify_names_the_row_that_was_tampered_with(tmp_path, monkeypatch, asked):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path))
    run = planted_runs.recognizer_run(tmp_path)
    rows = planted_runs.read_jsonl(run / "test_predictions.jsonl")
    rows[3]["cer_edits"] -= 1
    planted_runs.write_jsonl(run / "test_predictions.jsonl", rows)
    code, said = asked("bundle", "verify", run)
    assert code == 4 and "'utterance-0003'" in said


# S17


def test_tables_check_names_the_cell_of_a_hand_edit(tmp_path, monkeypatch, asked):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    run = planted_runs.recognizer_run(tmp_path / "runs")
    bundle.seal_bundle(run)
    (tmp_path / "tables.yaml").write_text(
        f"out: tables\nruns:\n  nko: [{run.name}]\ntables:\n  - {{name: paper4, rows: [nko], columns: [cer, wer]}}\n"
        "prose:\n  - {source: paper.md.in, target: paper.md}\n"
    )
    (tmp_path / "paper.md.in").write_text("N'Ko stands at {{cer:nko}} %.\n")
    spec = ("--spec", tmp_path / "tables.yaml")
    assert asked("tables", "build", *spec)[0] == 0
    made = {path: path.read_bytes() for path in [*(tmp_path / "tables").iterdir(), tmp_path / "paper.md"]}
    assert asked("tables", "build", *spec)[0] == 0
    assert {path: path.read_bytes() for path in made} == made, "byte for byte"
    for file, cell in (("tables/paper4.md", "paper4/nko/cer"), ("tables/paper4.csv", "paper4/nko/cer"),
                       ("tables/paper4.tex", "paper4/nko/cer"), ("paper.md", "prose/nko/cer")):  # fmt: skip
        text = made[tmp_path / file].decode()
        place = re.search(r"\d\.\d", text).start()
        (tmp_path / file).write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])
        code, said = asked("tables", "check", *spec)
        assert code == 3 and f"{cell}: changed by hand" in said, said
        (tmp_path / file).write_bytes(made[tmp_path / file])
    assert asked("tables", "check", *spec)[0] == 0


# S20


@pytest.mark.expensive
def test_promote_refuses_smoke_evidence(fixtures, asked):
    smoke = fixtures / "smoke.jsonl"
    assert asked("eval", "--rows", smoke, "--engine", f"file:{smoke}", "--out", fixtures / "agp_cer")[0] == 0
    code, said = asked("promote", "--claim", fixtures / "agp_cer.json")
    assert code == 3 and "\nnot promoted: evidence_class=smoke, accepted 2 < 299\n" in said
    written = json.loads((fixtures / "agp_cer.promotion.json").read_text())
    assert written["decision"] == "not promoted: evidence_class=smoke, accepted 2 < 299"
    assert {"criteria", "runs", "datasets", "metrics", "commands"} <= written.keys()


# S21

SMALL = {
    "id": "small", "snapshot": {"name": "s", "rows": 10, "split": {"train": 8, "val": 1, "test": 1}},
    "runs": [{"id": "traj", "script": "nko", "mode": "trajectory"}], "budget": {"usd": 5}, "estimate": {"hours": 2},
}  # fmt: skip


@pytest.fixture
def service(tmp_path, monkeypatch):
    """`PATH=tests/support/fakes:$PATH`, with a finished run for the machine to have made; waiting takes no time."""
    (tmp_path / "vast").mkdir()
    (tmp_path / "vast" / "made").symlink_to(planted_runs.recognizer_run(tmp_path / "elsewhere", "small.traj"))
    for name, value in {"PATH": f"{TESTS / 'support' / 'fakes'}{os.pathsep}{os.environ['PATH']}",
                        "PYTHON": sys.executable,
                        "FAKE_VAST": tmp_path / "vast", "VAST_API_KEY": "secret-0123456789",
                        "THUNDER_RUNS": tmp_path / "runs"}.items():  # fmt: skip
        monkeypatch.setenv(name, str(value))
    whole = gpu._lane

    def hurried() -> RentalSession:
        lane = whole()
        lane.sleep = lambda seconds: None
        return lane

    monkeypatch.setattr(gpu, "_lane", hurried)
    return tmp_path / "vast"


@pytest.mark.expensive
def test_vast_launches_nothing_unchecked_and_destroys_only_after_verify(service, tmp_path, asked):
    file = tmp_path / "m.json"
    broken = {**SMALL, "snapshot": {**SMALL["snapshot"], "rows": 11}}
    file.write_text(json.dumps(broken))
    launch = ("vast", "launch", file, "--only", "traj")
    code, said = asked(*launch, "--yes")
    assert code == 3 and "not its 11 rows" in said and not (service / "state.json").exists(), "nobody was asked"
    file.write_text(json.dumps(SMALL))
    assert asked("vast", "plan", file)[0] == 0
    (cell,) = matrix_spec.matrix_cells(matrix_spec.read_matrix(file))
    note = tmp_path / "runs/matrix-small/rehearsals" / f"{cell.condition[:16]}.json"
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"condition": cell.condition}))
    code, said = asked(*launch)
    assert code == 0 and "nothing was rented: add --yes to rent" in said
    code, said = asked(*launch, "--yes", "--cap", "1")
    assert code == 3 and FakeVast(service).state["machines"] == {}, "over the cap"
    assert asked(*launch, "--yes")[0] == 0
    assert len(FakeVast(service).running()) == 1
    code, said = asked("vast", "destroy", "small.traj")
    assert code == 3 and "not released" in said and len(FakeVast(service).running()) == 1
    code, said = asked("vast", "watch", "small.traj")
    assert code == 0 and "the copy is complete, the machine is released" in said
    assert FakeVast(service).state["machines"] == {} and asked("bundle", "verify", "small.traj")[0] == 0
    assert "secret" not in said
