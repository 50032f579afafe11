"""Where a job runs: on this machine by its ranks, or on the hosts of a cluster file."""

from __future__ import annotations

import pytest

from thunder.errors import UsageError
from thunder.launcher.job import Placement, choose_placement
from thunder.lora.lora_settings import LoraSettings

CLUSTER = "name: desk\nhosts: [{name: a, ssh: mac4, ips: [10.0.0.1]}, {name: b, ssh: mac5, ips: [10.0.0.2]}]\n"


def test_ranks_run_on_this_machine():
    placement = choose_placement(LoraSettings(ranks=3))
    assert (placement.ranks, placement.is_remote, placement.reason) == (3, False, "--ranks 3")
    assert all(host.is_this_machine for host in placement.cluster.hosts)


def test_a_cluster_file_names_the_hosts(tmp_path):
    (tmp_path / "desk.yaml").write_text(CLUSTER)
    placement = choose_placement(LoraSettings(cluster=str(tmp_path / "desk.yaml")))
    assert (placement.ranks, placement.is_remote) == (2, True)
    assert [host.ssh for host in placement.cluster.hosts] == ["mac4", "mac5"]
    local = [host.model_copy(update={"ssh": "127.0.0.1"}) for host in placement.cluster.hosts]
    mixed = placement.cluster.model_copy(update={"hosts": [local[0], placement.cluster.hosts[1]]})
    assert Placement(mixed, "").is_remote
    assert not Placement(placement.cluster.model_copy(update={"hosts": local}), "").is_remote


def test_ranks_and_a_cluster_contradict_each_other():
    with pytest.raises(UsageError, match="--ranks 2 runs on this machine, --cluster desk names the hosts"):
        choose_placement(LoraSettings(ranks=2, cluster="desk"))
