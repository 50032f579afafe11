"""Checkpoints on several hosts: real ranks with disks of their own go on from one and the same."""

from __future__ import annotations

import json
import shutil

import mlx.core as mx
import pytest
from ranked_training import run_training
from small_checkpoints import FILES, FINGERPRINT, state_of, trained

from thunder.training.checkpoints import checkpoint, checkpoint_manifest
from thunder.training.checkpoints.sync_checkpoints import choose_checkpoint

pytestmark = pytest.mark.expensive

SHARE = """
import json, sys
from pathlib import Path
from thunder.errors import ThunderError
from thunder.parallel import world
from thunder.runs.records.run_record import RunRecord
from thunder.training.checkpoints import checkpoint_manifest, sync_checkpoints
ring = world.join_world()
folders, primary, more = json.loads(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
record = RunRecord(Path(folders[ring.rank]), ring.is_main, is_primary=primary[ring.rank])
said = []
record.log = said.append
try:
    found = sync_checkpoints.sync_checkpoints(ring, record, **more)
    result = [found and found.name, found and checkpoint_manifest.verify_checkpoint_files(found)["checksum"]]
except ThunderError as error:
    result = [type(error).__name__, error.message]
print(json.dumps([result, said]))
"""


@pytest.fixture
def disks(tmp_path):
    """Makes a host's checkpoints: `disks("a", 4, 6, seed=1)` is the run's folder."""

    def make(name, *steps, seed=1, fingerprint=None):
        folder = tmp_path / name
        best = tmp_path / "best"
        best.mkdir(exist_ok=True)
        mx.save_safetensors(str(best / "adapters.safetensors"), {"a": mx.arange(5)})
        task, optimizer = trained(seed=seed)
        for step in steps:
            checkpoint.save_checkpoint(
                folder / "checkpoints",
                task,
                optimizer,
                state_of(step),
                fingerprint=fingerprint or FINGERPRINT,
                ranks=2,
                best=best,
            )
        folder.mkdir(exist_ok=True)
        return folder

    return make


@pytest.fixture
def share(run_ranks):
    """Run sync_checkpoints on one rank for each folder; returns each rank's ([step folder, checksum], log)."""

    def run(*folders, primary=None, force=False):
        primary = primary or [True] * len(folders)
        more = {"fingerprint": FINGERPRINT, "ranks": 2, "force": force}
        results = run_ranks(
            len(folders), SHARE, json.dumps([str(path) for path in folders]), json.dumps(primary), json.dumps(more)
        )
        assert all(code == 0 for code, _ in results), results
        return [json.loads(text.strip().splitlines()[-1]) for _, text in results]

    return run


def checksum(folder, step):
    return checkpoint_manifest.read_checkpoint_manifest(folder / "checkpoints" / f"step-{step:07d}")["checksum"]


@pytest.mark.parametrize("without", [0, 1])
def test_a_host_without_checkpoints_gets_the_others(disks, share, without):
    folders = [disks("a", *([] if without == 0 else [4, 6])), disks("b", *([] if without == 1 else [4, 6]))]
    answers = share(*folders)
    wanted = ["step-0000006", checksum(folders[1 - without], 6)]
    assert [answer for answer, _ in answers] == [wanted, wanted]
    assert f"from rank {1 - without} to rank {without}" in answers[0][1][-1]
    for name in FILES:
        texts = [(folder / "checkpoints" / "step-0000006" / name).read_bytes() for folder in folders]
        assert texts[0] == texts[1]


def test_a_damaged_newest_one_is_replaced_by_the_others(disks, share):
    folders = [disks("a", 4, 6), disks("b", 4, 6)]
    wanted = ["step-0000006", checksum(folders[1], 6)]
    path = folders[0] / "checkpoints" / "step-0000006" / checkpoint.WEIGHTS
    path.write_bytes(path.read_bytes()[:-1])
    answers = share(*folders)
    assert [answer for answer, _ in answers] == [wanted, wanted]
    assert any("rank 0" in text and "weights.safetensors: truncated" in text for text in answers[0][1])
    assert checksum(folders[0], 6) == wanted[1]
    assert sorted(path.name for path in folders[0].glob("checkpoints/*")) == ["step-0000004", "step-0000006"]


def test_damage_on_both_hosts_leaves_the_one_before(disks, share):
    folders = [disks("a", 4, 6), disks("b", 6)]
    for folder in folders:
        (folder / "checkpoints" / "step-0000006" / checkpoint.STATE).unlink()
    wanted = ["step-0000004", checksum(folders[0], 4)]
    assert [answer for answer, _ in share(*folders)] == [wanted, wanted]


def test_of_two_of_one_step_the_lowest_ranks_is_taken(disks, share):
    folders = [disks("a", 6), disks("b", 6, seed=2)]
    assert checksum(folders[0], 6) != checksum(folders[1], 6)
    wanted = ["step-0000006", checksum(folders[0], 6)]
    answers = share(*folders)
    assert [answer for answer, _ in answers] == [wanted, wanted]
    assert any("rank 1 has another checkpoint of step 6" in text for text in answers[0][1])


def test_ranks_on_one_host_share_its_disk(disks, share):
    """Ranks 0 and 1 on a host without checkpoints, rank 2 on another: rank 0 writes, rank 1 only reads."""
    empty, full = disks("a"), disks("b", 6)
    wanted = ["step-0000006", checksum(full, 6)]
    answers = share(empty, empty, full, primary=[True, False, True])
    assert [answer for answer, _ in answers] == [wanted] * 3
    assert [path.name for path in empty.glob("checkpoints/*")] == ["step-0000006"]


def test_none_anywhere_is_a_fresh_start_and_none_whole_an_error_on_every_rank(disks, share):
    assert [answer for answer, _ in share(disks("a"), disks("b"))] == [[None, None]] * 2
    damaged = disks("c", 6)
    (damaged / "checkpoints" / "step-0000006" / checkpoint.MANIFEST).unlink()
    for answer, _ in share(disks("d"), damaged):
        assert answer[0] == "ArtifactError" and "none of 1 checkpoints is whole" in answer[1]


def test_one_made_with_another_fingerprint_is_refused_on_every_rank(disks, share):
    folders = [disks("a"), disks("b", 6, fingerprint=FINGERPRINT | {"data": "e" * 64})]
    for answer, _ in share(*folders):
        assert answer[0] == "ArtifactError" and "data: eeeeeeeeeeee -> dddddddddddd" in answer[1]
    answers = share(*folders, force=True)
    assert [answer[0] for answer, _ in answers] == ["step-0000006"] * 2
    assert any("data: eeeeeeeeeeee -> dddddddddddd" in text and "--force" in text for text in answers[0][1])


@pytest.mark.parametrize(
    ("held", "step", "source", "lacking"),
    [
        ([{2: "a"}, {2: "a"}], 2, 0, ()),
        ([{2: "a"}, {2: "a", 4: "b"}], 4, 1, (0,)),
        ([{}, {4: "b"}, {4: "b"}], 4, 1, (0,)),
        ([{4: "c"}, {4: "b"}, {2: "b"}], 4, 0, (1, 2)),
    ],
)
def test_the_newest_step_of_the_lowest_rank_is_chosen(held, step, source, lacking):
    chosen = choose_checkpoint(held)
    assert (chosen.step, chosen.source, chosen.lacking) == (step, source, lacking)
    assert choose_checkpoint([{}, {}]) is None


@pytest.mark.slow
def test_a_run_on_two_hosts_goes_on_from_what_one_of_them_has(run_ranks, tmp_path):
    """The very bytes of a run that was never disturbed, on both hosts, and the best weights too."""

    def run(name):
        results = run_training(run_ranks, tmp_path, 2, name, how={"hosts": True}, batch_size=1, lora_dropout=0.1)
        assert [code for code, _ in results] == [0, 0], results
        return [tmp_path / name / f"host{rank}" for rank in (0, 1)]

    def files(folder):
        return {
            path.relative_to(folder): path.read_bytes()
            for part in ("adapters", "checkpoints")
            for path in (folder / part).rglob("*")
            if path.is_file()
        }

    whole = run("whole")
    assert files(whole[0]) == files(whole[1]) and len(files(whole[0])) == 2 + 2 + 2 * (4 + 2)
    assert not (whole[1] / "metrics.jsonl").exists(), "rank 0's alone"
    for without in (0, 1):
        again = tmp_path / f"without{without}"
        shutil.copytree(tmp_path / "whole" / f"host{1 - without}", again / f"host{1 - without}")
        shutil.rmtree(again / f"host{1 - without}" / "checkpoints" / "step-0000012")
        hosts = run(again.name)
        assert files(hosts[0]) == files(hosts[1])
        last = f"checkpoints/step-{12:07d}/"
        wanted = {path: text for path, text in files(whole[0]).items() if str(path).startswith(("adapters", last))}
        assert wanted.items() <= files(hosts[0]).items()
    # a finished run, of which a host has only the checkpoints, and the other nothing: no step is left to do
    shutil.copytree(tmp_path / "whole" / "host1" / "checkpoints", tmp_path / "ended" / "host1" / "checkpoints")
    hosts = run("ended")
    assert {path: text for path, text in files(whole[0]).items() if "step-0000006" not in str(path)} == files(hosts[0])
    assert files(hosts[1]) == files(whole[1])
