import json
from pathlib import Path

import pytest

from thunder.cluster.inventory import cluster_file
from thunder.errors import ConfigError, UsageError

MACS = """
name: macs
hosts:
  - {name: Mac4, ssh: me@mac4.local, ips: [10.0.0.1], python: ~/tt/.venv/bin/python, folder: ~/tt, memory_gb: 24}
  - {name: Mac5, ssh: mac5.local, ips: [10.0.0.2]}
env: {HF_HUB_OFFLINE: "1"}
"""

JACCL = """backend: jaccl
hosts:
  - {name: a, ips: [10.0.0.1], rdma: [null, rdma_en2]}
  - {name: b, ips: [10.0.0.2], rdma: [rdma_en3, null]}
"""


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_our_yaml(tmp_path):
    cluster = cluster_file.load_cluster(written(tmp_path, "macs.yaml", MACS))
    assert [host.name for host in cluster.hosts] == ["Mac4", "Mac5"]
    assert cluster.hosts[0].memory_gb == 24.0
    assert cluster.env == {"HF_HUB_OFFLINE": "1"}
    assert not any(host.is_this_machine for host in cluster.hosts)


def test_the_files_name_is_the_clusters_where_it_says_none(tmp_path):
    assert (
        cluster_file.load_cluster(written(tmp_path, "desk.yaml", "hosts: [{name: a, ips: [127.0.0.1]}]")).name == "desk"
    )


def test_the_hostfile_we_write_can_be_read_again(tmp_path):
    cluster = cluster_file.load_cluster(written(tmp_path, "macs.yaml", MACS))
    content = cluster_file.to_hostfile(cluster)
    assert content == {
        "backend": "ring",
        "envs": ["HF_HUB_OFFLINE=1"],
        "hosts": [{"ssh": "me@mac4.local", "ips": ["10.0.0.1"]}, {"ssh": "mac5.local", "ips": ["10.0.0.2"]}],
    }
    again = cluster_file.load_cluster(written(tmp_path, "macs.json", json.dumps(content)))
    assert [host.ips for host in again.hosts] == [host.ips for host in cluster.hosts]


def test_mlx_reads_the_hostfile_we_write(tmp_path):
    common = pytest.importorskip("mlx._distributed_utils.common")
    path = written(tmp_path, "h.json", json.dumps(cluster_file.to_hostfile(cluster_file.local_cluster(2))))
    read = common.Hostfile.from_file(str(path))
    assert [(host.ssh_hostname, host.ips) for host in read.hosts] == [("127.0.0.1", ["127.0.0.1"])] * 2


@pytest.mark.parametrize(
    "text, said",
    [
        ("hosts: []", "hosts: List should have at least 1 item"),
        ("name: x", "'hosts' is missing"),
        ("hosts: [{name: a, ips: [mac4.local]}]", "host 1 (a): ips[0]: expected an IPv4 address"),
        ("hosts: [{name: a, ips: ['::1']}]", "ips[0]: expected an IPv4 address"),
        ("hosts: [{name: a, ips: []}]", "host 1 (a): ips: List should have at least 1 item"),
        ("hosts: [{name: a, ips: [10.0.0.1, 10.0.0.1]}]", "lists an address of `ips` twice"),
        ("hosts: [{name: a, ip: [10.0.0.1]}]", "host 1 (a): unknown key 'ip'. Did you mean 'ips'?"),
        ("hosts: [{name: a, ips: 10.0.0.1}]", "host 1 (a): ips: should be a valid list, not '10.0.0.1'"),
        ("hosts: [{name: a, ips: [10.0.0.1]}, {name: a, ips: [10.0.0.2]}]", "two hosts have the name 'a'"),
        ("hosts: [{name: a, ips: [10.0.0.1]}, {name: b, ips: [10.0.0.2, 10.0.1.2]}]", "the same number on each"),
        ("hosts: [{name: a, ssh: -oProxyCommand=x, ips: [10.0.0.1]}]", "ssh: expected a host name or user@host"),
        ("hosts: [{name: a, ips: [10.0.0.1], memory_gb: 0}]", "memory_gb: should be greater than 0, not 0"),
        ("backend: tcp\nhosts: [{name: a, ips: [10.0.0.1]}]", "backend: should be 'ring' or 'jaccl', not 'tcp'"),
        ("backend: jaccl\nhosts: [{name: a, ips: [10.0.0.1]}]", "host 'a' has no 'rdma'"),
        (JACCL.replace("[null, rdma_en2]", "[rdma_en2]"), "host 'a' has 1 entries in 'rdma' for 2 hosts"),
        (JACCL.replace("[null, rdma_en2]", "[rdma_en2, null]"), "host 'a': rdma[0] is its own place and says 'rdma_"),
        (JACCL.replace("[null, rdma_en2]", "[null, null]"), "host 'a': 'rdma' names no device towards 'b'"),
        (JACCL.replace("rdma_en2", "'x; y'"), "host 1 (a): rdma[1]: expected a device such as rdma_en2"),
        ("hosts: [{name: a, ssh: me@-oProxyCommand=x, ips: [10.0.0.1]}]", "ssh: expected a host name or user@host"),
        ("hosts: [{name: a, ips: [10.0.0.1]}]\nenv: {A: 1}", "env.A: should be a valid string, not 1"),
        ("hosts: [{name: a, ips: [10.0.0.1]}]\nenv: {'A B': x}", "'A B' is not the name of an environment variable"),
        ("hosts: [a]", "host 1: "),
    ],
)
def test_a_fault_names_file_host_value_and_what_was_expected(tmp_path, text, said):
    path = written(tmp_path, "c.yaml", text)
    with pytest.raises(ConfigError) as caught:
        cluster_file.load_cluster(path)
    assert str(path) in caught.value.message
    assert said in caught.value.message


def test_all_faults_are_listed(tmp_path):
    path = written(tmp_path, "c.yaml", "hosts: [{name: a, ips: [x]}, {name: b, ips: [y], tea: no}]")
    with pytest.raises(ConfigError) as caught:
        cluster_file.load_cluster(path)
    assert len(caught.value.message.splitlines()) == 4


def test_a_missing_file(tmp_path):
    for name in ("none.yaml", "none.json"):
        with pytest.raises(ConfigError, match="No such file"):
            cluster_file.load_cluster(tmp_path / name)


def test_nothing_named_means_two_ranks_here(tmp_path):
    choice = cluster_file.choose_cluster(None, {}, tmp_path)
    assert choice.reason == "no cluster named: two ranks on this machine"
    assert choice.path == cluster_file.CLUSTERS / "local.yaml"
    assert choice.cluster == cluster_file.local_cluster(2), (
        "configs/clusters/local.yaml and the built-in one are the same"
    )


def test_local_is_there_without_the_configs_folder(tmp_path):
    for flag in (None, "local"):
        choice = cluster_file.choose_cluster(flag, {}, tmp_path, folder=tmp_path / "none")
        assert (choice.path, len(choice.cluster.hosts)) == (None, 2)


def test_the_first_that_names_one_wins(tmp_path):
    shipped = written(tmp_path, "configs/macs.yaml", MACS).parent
    home = tmp_path / "home"

    def chosen(flag, environ):
        choice = cluster_file.choose_cluster(flag, environ, home, shipped)
        return choice.cluster.name, choice.reason

    assert chosen(None, {}) == ("local", "no cluster named: two ranks on this machine")
    written(home, ".config/thunder/cluster.yaml", MACS.replace("name: macs", "name: own"))
    assert chosen(None, {"THUNDER_CLUSTER": ""}) == ("own", "~/.config/thunder/cluster.yaml")
    assert chosen(None, {"THUNDER_CLUSTER": "macs"}) == ("macs", "THUNDER_CLUSTER=macs")
    assert chosen("local", {"THUNDER_CLUSTER": "macs"}) == ("local", "--cluster local")
    written(home, ".config/thunder/clusters/desk.yaml", MACS.replace("name: macs", "name: desk"))
    assert chosen("desk", {}) == ("desk", "--cluster desk")
    assert chosen(str(shipped / "macs.yaml"), {})[0] == "macs"
    assert chosen("~/.config/thunder/cluster.yaml", {})[0] == "own"


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    written(tmp_path, ".config/thunder/clusters/minis.yaml", MACS)
    with pytest.raises(ConfigError) as caught:
        cluster_file.choose_cluster("mini{s", {}, tmp_path, folder=tmp_path / "none")
    assert "known: local, minis." in caught.value.message
    assert "Did you mean 'minis'?" in caught.value.message


def test_local_ranks():
    assert [host.name for host in cluster_file.local_cluster(3).hosts] == ["local-0", "local-1", "local-2"]
    with pytest.raises(UsageError, match="expected 1 or more"):
        cluster_file.local_cluster(0)


@pytest.mark.parametrize(
    "ssh, here",
    [(None, True), ("localhost", True), ("127.0.0.1", True), ("::1", True), ("Mac5", False), ("10.0.0.2", False)],
)
def test_which_hosts_are_this_machine(ssh, here):
    assert cluster_file.Host(name="a", ssh=ssh, ips=["10.0.0.1"]).is_this_machine is here


FIELDS = ("name", "ssh", "python", "folder", "runs")
WHOLE = {"name": "a", "ssh": "a", "ips": ["10.0.0.1"], "python": "p", "folder": "f", "runs": "r"}


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("letter", ["\0", "\n", "\r", "\x1b", "\x7f", "\x85", "\u2028"])
def test_control_characters_are_refused_by_host_and_field(tmp_path, field, letter):
    content = json.dumps({"hosts": [WHOLE | {field: f"x{letter}touch PWNED"}]})
    with pytest.raises(ConfigError) as caught:
        cluster_file.load_cluster(written(tmp_path, "h.json", content))
    assert "host 1" in caught.value.message and f"{field}: character 2 is U+{ord(letter):04X}" in caught.value.message
    assert letter not in caught.value.message.replace(":\n  host", "  host"), "and it is not printed as it is"


@pytest.mark.parametrize("text", ['name: "a\\nb"\n', 'env: {A: "x\\ny"}\n', 'env: {"A\\n": x}\n'])
def test_control_characters_elsewhere(tmp_path, text):
    with pytest.raises(ConfigError, match=r"U\+000A"):
        cluster_file.load_cluster(written(tmp_path, "c.yaml", f"{text}hosts: [{{name: a, ips: [10.0.0.1]}}]\n"))


@pytest.mark.parametrize("hostile", ["a;touch PWNED", "$(id)", "`id`", "a'b", 'a"b', "a|b", "a&b", "a>b", "a\\b"])
def test_an_ssh_name_is_no_shell_command(hostile):
    with pytest.raises(ValueError, match="expected a host name or user@host"):
        cluster_file.Host(name="a", ssh=hostile, ips=["10.0.0.1"])
    for name in ("me@mac4.local", "Mac-4_b", "fe80::1%en0", "10.0.0.1"):
        assert cluster_file.Host(name="a", ssh=name, ips=["10.0.0.1"]).ssh == name


@pytest.mark.parametrize(
    "folder, runs, place",
    [
        ("~/tt", None, "~/tt/runs"),
        ("~/tt/", "out", "~/tt/out"),
        ("~/tt", "~/r", "~/r"),
        (None, "/r", "/r"),
        (None, None, None),
    ],
)
def test_where_runs_lie(folder, runs, place):
    assert cluster_file.Host(name="a", ips=["10.0.0.1"], folder=folder, runs=runs).runs_folder == place


def test_rdma_devices_go_into_a_hostfile_and_come_back(tmp_path):
    cluster = cluster_file.load_cluster(written(tmp_path, "j.yaml", JACCL))
    assert (cluster.hosts[0].devices_to(1), cluster.hosts[0].devices_to(0)) == (["rdma_en2"], [])
    content = cluster_file.to_hostfile(cluster)
    assert [host["rdma"] for host in content["hosts"]] == [[None, "rdma_en2"], ["rdma_en3", None]]
    again = cluster_file.load_cluster(written(tmp_path, "j.json", json.dumps(content)))
    assert again.backend == "jaccl" and [host.rdma for host in again.hosts] == [host.rdma for host in cluster.hosts]
    common = pytest.importorskip("mlx._distributed_utils.common")
    assert [host.rdma for host in common.Hostfile.from_file(str(tmp_path / "j.json")).hosts] == [
        host.rdma for host in cluster.hosts
    ]
