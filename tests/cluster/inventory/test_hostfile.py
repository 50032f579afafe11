"""Files of mlx's hostfile format, read as clusters."""

import json
from pathlib import Path

import pytest

from thunder.cluster.inventory import cluster_file
from thunder.errors import ConfigError


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_mlx_names_several_devices_to_one_host_as_a_list(tmp_path):
    hostfile = [{"ssh": "a", "ips": ["10.0.0.1"], "rdma": [None, ["x1", "x2"]]}, {"ssh": "b", "ips": ["10.0.0.2"]}]
    hostfile[1]["rdma"] = []
    cluster = cluster_file.load_cluster(written(tmp_path, "h.json", json.dumps(hostfile)))
    assert cluster.hosts[0].devices_to(1) == ["x1", "x2"] and cluster.hosts[1].rdma is None


@pytest.mark.parametrize("in_a_mapping", [False, True])
def test_both_forms_of_mlx_hostfile(tmp_path, in_a_mapping):
    entries = [{"ssh": "Mac4", "ips": ["10.0.0.1"], "rdma": [None, "rdma_en2"]}, {"ssh": "Mac5", "ips": ["10.0.0.2"]}]
    content = {"backend": "ring", "envs": ["A=1=2"], "hosts": entries} if in_a_mapping else entries
    cluster = cluster_file.load_cluster(written(tmp_path, "hosts.json", json.dumps(content)))
    assert [(host.name, host.ssh, host.ips) for host in cluster.hosts] == [
        ("Mac4", "Mac4", ["10.0.0.1"]),
        ("Mac5", "Mac5", ["10.0.0.2"]),
    ]
    assert cluster.env == ({"A": "1=2"} if in_a_mapping else {})


def test_ranks_that_share_a_host_get_names_of_their_own(tmp_path):
    text = json.dumps([{"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}] * 2)
    cluster = cluster_file.load_cluster(written(tmp_path, "two.json", text))
    assert [host.name for host in cluster.hosts] == ["127.0.0.1-0", "127.0.0.1-1"]
    assert all(host.is_this_machine for host in cluster.hosts)


@pytest.mark.parametrize(
    "text, said",
    [
        ("{", "not JSON"),
        ('"x"', "expected a list of hosts"),
        ('{"hosts": 1}', "expected a list of hosts"),
        ('[{"ips": ["10.0.0.1"]}]', "host 1 has no 'ssh'"),
        ('{"envs": ["A"], "hosts": [{"ssh": "a", "ips": ["10.0.0.1"]}]}', "'A' is not of the form NAME=VALUE"),
        ('{"backend": "jaccl", "hosts": [{"ssh": "a", "ips": ["10.0.0.1"]}]}', "host 'a' has no 'rdma'"),
    ],
)
def test_faults_of_a_hostfile(tmp_path, text, said):
    with pytest.raises(ConfigError, match="h.json") as caught:
        cluster_file.load_cluster(written(tmp_path, "h.json", text))
    assert said in caught.value.message
