"""Hosts of the SSH configuration: where a name leads, and configurations that would be misread."""

import pytest

from thunder.cluster.ssh import client
from thunder.errors import ClusterError


def refused(name, home, **more):
    with pytest.raises(client.SshError) as caught:
        client.connect_ssh(name, home, **more)
    assert isinstance(caught.value, ClusterError) and caught.value.exit_code == 6
    return caught.value


def test_where_a_name_leads(tmp_path):
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text(
        "Host Mac4\n HostName 10.1.1.4\n Port 2222\n User me\n IdentityFile ~/.ssh/own\n"
        " UserKnownHostsFile ~/.ssh/theirs\n ProxyJump door\n"
    )
    target = client.resolve_ssh_target("Mac4", tmp_path)
    assert (target.address, target.port, target.user, target.jump) == ("10.1.1.4", 2222, "me", "door")
    assert target.known_hosts == (tmp_path / ".ssh" / "theirs",)
    assert target.known_as == "[10.1.1.4]:2222"
    assert client.resolve_ssh_target("you@Mac4", tmp_path).user == "you"
    plain = client.resolve_ssh_target("mac5.local", tmp_path)
    assert (plain.address, plain.port, plain.known_as) == ("mac5.local", 22, "mac5.local")
    assert plain.known_hosts[0] == tmp_path / ".ssh" / "known_hosts"


@pytest.mark.parametrize("line", ["Port many", "ProxyCommand nc %h %p"])
def test_a_config_that_would_be_misread(tmp_path, line):
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text(f"Host Mac4\n {line}\n")
    assert refused("Mac4", tmp_path).kind == "config"
