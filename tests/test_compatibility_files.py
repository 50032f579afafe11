"""The commands that made the artifacts of version 0.1.0 make the same ones today: texts alike, and no key is lost."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from serialized_keys import keys_of_file, keys_of_folder, missing_keys
from version_artifacts import ARTIFACTS, HERE, RENAMED, TINY_HEAD

from thunder.acoustic.head import ctc_head
from thunder.cli.main import main
from thunder.cluster.inventory import cluster_file
from thunder.cluster.ranks import oom_fallbacks
from thunder.config import REPOSITORY
from thunder.rental.rental_ledger import RentalLedger
from thunder.training.shapes import chips

pytestmark = pytest.mark.expensive
DATA = Path(HERE)


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lost(now: Path, before: Path) -> dict[str, list[str]]:
    """Files, or keys in them, of a folder or file of 0.1.0 that today's lacks."""
    if before.is_file():
        gone = missing_keys(keys_of_file(before), keys_of_file(now), RENAMED)
        return {before.name: gone} if gone else {}
    files, found = keys_of_folder(now), {}
    for name, keys in keys_of_folder(before).items():
        gone = missing_keys(keys, files[name], RENAMED) if name in files else ["no such file"]
        found |= {name: gone} if gone else {}
    return found


def rows(path: Path, *fields: str) -> list[tuple]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [tuple(json.loads(line)[field] for field in fields) for line in lines]


def test_corpora_have_the_same_rows(workspace):
    built = ["--test-share", "0.2", "--valid-share", "0.1", "--near-duplicates", "keep", "--out", "today/corpus"]
    assert main(["corpus", "build", f"{HERE}/rows.jsonl", *built]) == 0
    learned = ["--learn-from", f"{HERE}/corpus", "--text", f"{HERE}/text.tsv", "--rows", "20"]
    assert main(["corpus", "synthetic", *learned, "--out", "today/synthetic"]) == 0
    for name in ("corpus", "synthetic"):
        assert lost(Path("today") / name, DATA / name) == {}
    for part in ("train", "valid", "test"):
        today, before = Path("today") / "corpus" / f"{part}.jsonl", DATA / "corpus" / f"{part}.jsonl"
        assert today.read_bytes() == before.read_bytes()
        # errors of synthetic rows are drawn anew: version 0.1.0 left rows without an error among them
        texts = [
            [json.loads(line)["reference_text"] for line in (folder / "synthetic" / f"{part}.jsonl").open()]
            for folder in (Path("today"), DATA)
        ]
        assert texts[0] == texts[1]
    assert main(["train", "--data", f"{HERE}/corpus", "--iters", "20", "--dry-run"]) == 0


def test_an_ngram_has_the_same_bytes(workspace):
    listed = [json.loads(line) for line in (DATA / "features" / "shard-00000.jsonl").read_text().splitlines()]
    Path("texts.txt").write_text("".join(f"{each['text']}\n" for each in listed[1:]))
    assert (
        main(["asr", "ngram", "--text", "texts.txt", "--script", "latin", "--order", "3", "--out", "today.arpa"]) == 0
    )
    assert Path("today.arpa").read_bytes() == (DATA / "tones.arpa").read_bytes()


def test_features_are_the_same_frames(workspace):
    import mlx.core as mx

    made = ["--features", "logmel", "--n-mels", "8", "--subsample", "2", "--out", "today"]
    assert main(["asr", "features", f"{HERE}/recordings", *made]) == 0
    assert lost(Path("today"), DATA / "features") == {}
    now, before = (mx.load(str(folder / "shard-00000.safetensors")) for folder in (Path("today"), DATA / "features"))
    for name, array in now.items():
        assert mx.allclose(array, before[name][: len(array)], rtol=1e-2, atol=1e-3), name
    recipes = [json.loads((folder / "index.json").read_text()) for folder in (Path("today"), DATA / "features")]
    assert recipes[0]["recipe_digest"] == recipes[1]["recipe_digest"]


def test_an_evaluation_is_the_same_and_a_stopped_one_goes_on(workspace):
    said = ["eval", "--rows", f"{HERE}/few_rows.jsonl", "--adapter-path", "runs/corrector/adapters"]
    assert main([*said, "--out", "today"]) == 0
    before = DATA / "evaluation"
    (before / "manifest.json").unlink()  # the seal
    assert lost(Path("today"), before) == {}
    assert main(["eval", "--resume", f"{HERE}/evaluation_interrupted"]) == 0
    assert lost(DATA / "evaluation_interrupted", before) == {}
    proposals = [
        rows(folder / "predictions.jsonl", "row_id", "proposal", "accepted", "edits_after")
        for folder in (Path("today"), DATA / "evaluation_interrupted", before)
    ]
    assert proposals[0] == proposals[1] == proposals[2]


def test_the_gate_decides_the_same(workspace):
    said = [f"{HERE}/few_rows.jsonl", "--adapter-path", "runs/corrector/adapters"]
    assert main(["agp", "propose", *said, "--log", "today/provenance.jsonl", "--out", "today/decided.jsonl"]) == 0
    for name in ("decided.jsonl", "provenance.jsonl"):
        assert lost(Path("today") / name, DATA / "agp" / name) == {}
    fields = ("id", "proposal", "final_text", "decision", "accepted", "partition", "partition_source")
    assert rows(Path("today/decided.jsonl"), *fields) == rows(DATA / "agp" / "decided.jsonl", *fields)
    rules = [
        [[reason["rule"] for reason in reasons] for (reasons,) in rows(path, "reasons")]
        for path in (Path("today/decided.jsonl"), DATA / "agp" / "decided.jsonl")
    ]
    assert rules[0] == rules[1]
    engine = ["--engine", f"file:{HERE}/agp/decided.jsonl", "--out", "scored"]
    assert main(["agp", "eval", f"{HERE}/few_rows.jsonl", *engine]) == 0
    assert lost(Path("scored"), DATA / "gate_evaluation") == {}
    # the log of before takes the decisions of today
    log = ["--engine", "identity", "--log", f"{HERE}/agp/provenance.jsonl", "--out", "more.jsonl"]
    assert main(["agp", "propose", f"{HERE}/few_rows.jsonl", *log]) == 0
    assert main(["agp", "verify", "--log", f"{HERE}/agp/provenance.jsonl"]) == 0


def test_a_recording_is_transcribed_to_the_same_rows(workspace, monkeypatch):
    small = ctc_head.HEAD_SIZES["small"]
    monkeypatch.setitem(ctc_head.HEAD_SIZES, "small", type(small)(**TINY_HEAD, activation=small.activation))
    recordings = [f"{HERE}/recordings/u0{number}.flac" for number in range(2)]
    said = ["--run", "runs/modes.traj", "--adapter-path", "runs/corrector/adapters", "--out", "today"]
    assert main(["transcribe", *recordings, *said]) == 0
    assert lost(Path("today"), DATA / "transcription") == {}
    fields = ("id", "asr_text", "final_text", "decision")
    assert rows(Path("today/decisions.jsonl"), *fields) == rows(DATA / "transcription" / "decisions.jsonl", *fields)


def test_a_matrix_that_is_done_starts_nothing_and_its_tables_have_the_same_bytes(workspace):
    before = {path: path.read_bytes() for path in (DATA / "tables").glob("*")} | {
        DATA / "paper.md": (DATA / "paper.md").read_bytes()
    }
    assert main(["matrix", "run", f"{HERE}/matrix.json", "--cluster", "local"]) == 0
    assert lost(Path("runs/matrix-modes"), ARTIFACTS / "runs" / "matrix-modes") == {}
    assert main(["tables", "build", "--spec", f"{HERE}/tables.yaml"]) == 0
    assert len(before) == 5 and before == {path: path.read_bytes() for path in before}
    assert main(["promote", "--claim", f"{HERE}/claim.json"]) == 3
    assert lost(DATA / "claim.promotion.json", ARTIFACTS / "claim.promotion.json") == {}


def test_a_hypothesis_has_the_digest_that_was_logged(workspace):
    log = DATA / "hypothesis.json.frozen.jsonl"
    (before,) = log.read_text().splitlines()
    log.unlink()
    assert main(["hypothesis", "freeze", f"{HERE}/hypothesis.json"]) == 0
    assert rows(log, "sha256") == [(json.loads(before)["sha256"],)]
    assert lost(log, ARTIFACTS / log.name) == {}


@pytest.mark.parametrize("name", ["corrector", "recognizer", "modes.traj"])
def test_a_seal_has_the_same_bytes(name, workspace):
    manifest = workspace / "runs" / name / "manifest.json"
    before = manifest.read_bytes()
    manifest.unlink()
    assert main(["bundle", "seal", name]) == 0
    assert manifest.read_bytes() == before


def test_evidence_is_written_with_the_same_keys(workspace):
    shutil.copytree("runs/corrector", "runs/open", ignore=shutil.ignore_patterns("manifest.json", "evidence.json"))
    assert main(["runs", "evidence", "open"]) == 0
    assert lost(Path("runs/open/evidence.json"), ARTIFACTS / "runs" / "corrector" / "evidence.json") == {}


def test_what_a_machine_remembers_is_still_known(workspace):
    """Chips that were calibrated, shapes that a GPU could not do, and rentals with what they cost."""
    state = DATA / "state"
    ((name, measured),) = chips.read_measured_chips(state).items()
    assert chips.known_chips({name: measured})[name].source.startswith("measured on ")
    shape = oom_fallbacks.WorkloadShape(("Apple M4", "Apple M4 Pro"), "a" * 64, 2, 8, 512, False)
    assert oom_fallbacks.remembered_fallback(state, shape) == (1, "20261129-010000-sample-0000")
    assert [run for run, _ in oom_fallbacks.chip_incidents(state, "Apple M4", "a" * 64)] == [
        "20261129-010000-sample-0000"
    ]
    ledger = RentalLedger(Path("runs"))
    assert ledger.open_rentals() == {} and ledger.spent_usd() == pytest.approx(0.4 * 3000 / 3600)
    (rental,) = ledger.rentals().values()
    assert rental["run"] == "traj" and {"ordered", "created", "started", "synced", "destroyed"} <= rental.keys()


def test_files_that_people_keep_are_read(workspace, capsys):
    """A cluster file, gate rules, and a run's config.yaml with the names that options had."""
    cluster = cluster_file.load_cluster(DATA / "options" / "cluster.yaml")
    assert [host.name for host in cluster.hosts] == ["Mac4", "Mac5"] and cluster.hosts[0].memory_gb == 64
    rules = ["--rules", f"{HERE}/options/gate.yaml", "--engine", "identity", "--out", "scored"]
    assert main(["agp", "eval", f"{HERE}/few_rows.jsonl", *rules]) == 0
    gate = json.loads(Path("scored/results.json").read_text())["gate"]
    assert gate["rules_id"] == f"agp_rules_v1@{digest_of(DATA / 'options' / 'gate.yaml')}"
    capsys.readouterr()
    config = ["-c", "runs/corrector-interrupted/config.yaml", "--run-name", "again", "--dry-run", "--json"]
    assert main(["train", *config]) == 0
    planned = json.loads(capsys.readouterr().out)["settings"]
    for name, value in {"max_wraps": 4, "window": 4, "unsafe_shape": True, "lora_dropout": 0.05}.items():
        assert planned.get(name, planned.get(RENAMED.get(name, ""))) == value, name


def test_the_gate_rules_that_tokens_name_are_unchanged():
    """Tokens hold the digest of the whole file: a changed comment would be another set of rules."""
    shipped = REPOSITORY / "configs" / "gate" / "agp_rules_v1.yaml"
    assert digest_of(shipped) == digest_of(ARTIFACTS / "options" / "gate.yaml")
