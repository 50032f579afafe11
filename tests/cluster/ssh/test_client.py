import contextlib
import shlex
import socket
import subprocess
import threading
import time

import paramiko
import pytest

from thunder.cluster.ssh import client
from thunder.errors import ClusterError
from thunder.units import Seconds

HOSTILE = ["a b", "$(touch /tmp/never)", "'; touch never; '", '"', "*", "\n", "--x", "`id`", "ߒߞߏ"]


class Answering(paramiko.ServerInterface):
    """Takes one user's key, and gives every command to a shell."""

    def __init__(self, accepts):
        self.accepts = accepts

    def get_allowed_auths(self, username):
        return "publickey"

    def check_auth_publickey(self, username, key):
        return paramiko.AUTH_SUCCESSFUL if self.accepts and username == "train" else paramiko.AUTH_FAILED

    def check_channel_request(self, kind, chanid):
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel, command):
        def work():
            stdin = channel.makefile("rb").read()
            done = subprocess.run(["sh", "-c", command.decode()], input=stdin, capture_output=True)
            with contextlib.suppress(OSError):
                channel.sendall(done.stdout)
                channel.sendall_stderr(done.stderr)
                channel.send_exit_status(done.returncode)
                channel.close()

        threading.Thread(target=work, daemon=True).start()
        return True


@pytest.fixture
def server(tmp_path):
    """An ssh server on loopback, and a home whose config, key and known_hosts lead to it."""
    key = paramiko.ECDSAKey.generate()
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    stop = threading.Event()
    state = {"accepts": True}

    def serve():
        listener.settimeout(0.1)
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                transport = paramiko.Transport(listener.accept()[0])
                transport.add_server_key(key)
                with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                    transport.start_server(server=Answering(state["accepts"]))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    folder = tmp_path / ".ssh"
    folder.mkdir()
    paramiko.ECDSAKey.generate().write_private_key_file(str(folder / "key"))
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {key.get_name()} {key.get_base64()}\n")
    (folder / "config").write_text(
        f"Host mac9\n HostName 127.0.0.1\n Port {port}\n User train\n IdentityFile {folder}/key\n IdentitiesOnly yes\n"
    )
    state |= {"home": tmp_path, "folder": folder, "port": port, "key": key}
    yield state
    stop.set()
    thread.join(5)
    listener.close()


def refused(name, home, **more):
    with pytest.raises(client.SshError) as caught:
        client.connect_ssh(name, home, **more)
    assert isinstance(caught.value, ClusterError) and caught.value.exit_code == 6
    return caught.value


def test_a_command_its_input_and_how_it_ended(server):
    with client.connect_ssh("mac9", server["home"]) as connection:
        done = connection.run(["sh", "-c", "cat; echo bad >&2; exit 3"], Seconds(10), stdin="given")
    assert done == client.CommandResult(3, "given", "bad\n")


def test_words_arrive_as_they_are(server, tmp_path):
    with client.connect_ssh("mac9", server["home"]) as connection:
        done = connection.run(["printf", "%s\\0", *HOSTILE], Seconds(10))
    assert done.stdout.split("\0")[:-1] == HOSTILE
    assert shlex.split(shlex.join(HOSTILE)) == HOSTILE


def test_a_command_that_does_not_end_is_given_up(server):
    with client.connect_ssh("mac9", server["home"]) as connection:
        begun = time.monotonic()
        with pytest.raises(client.SshError, match="no answer within 0.3 s"):
            connection.run(["sleep", "8"], Seconds(0.3))
        assert time.monotonic() - begun < 6
        assert connection.run(["true"], Seconds(10)).returncode == 0, "the connection is still good"


def test_a_flood_is_cut(server, monkeypatch):
    monkeypatch.setattr(client, "MAX_OUTPUT_BYTES", 1000)
    with client.connect_ssh("mac9", server["home"]) as connection:
        done = connection.run(["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"], Seconds(20))
    assert done.stdout == "x" * 1000


def test_an_unknown_key_is_refused_and_not_added(server):
    known = server["folder"] / "known_hosts"
    known.write_text("")
    error = refused("mac9", server["home"])
    assert error.kind == "unknown key"
    assert client.key_fingerprint(server["key"]) in error.message
    assert error.fix.startswith(f"ssh-keyscan -p {server['port']} 127.0.0.1 >> {known}")
    assert known.read_text() == ""


def test_a_changed_key_is_refused(server):
    other = paramiko.ECDSAKey.generate()
    known = server["folder"] / "known_hosts"
    known.write_text(f"[127.0.0.1]:{server['port']} {other.get_name()} {other.get_base64()}\n")
    error = refused("mac9", server["home"])
    assert error.kind == "changed key"
    assert error.fix.startswith(f"ssh-keygen -f {known} -R '[127.0.0.1]:{server['port']}' && ssh-keyscan")


def test_a_key_alias_counts_alone(server):
    config = server["folder"] / "config"
    config.write_text(config.read_text() + " HostKeyAlias desk\n")
    assert refused("mac9", server["home"]).kind == "unknown key"
    known = server["folder"] / "known_hosts"
    known.write_text(known.read_text().replace("127.0.0.1", "desk"))
    client.connect_ssh("mac9", server["home"]).close()


def test_our_key_is_refused(server):
    server["accepts"] = False
    error = refused("mac9", server["home"])
    assert (error.kind, error.fix.split("  ")[0]) == ("refused", "ssh-copy-id mac9")
    assert "mac9 (train@127.0.0.1:" in error.message


def test_nobody_listens(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text(f"Host far\n HostName 127.0.0.1\n Port {port}\n User train\n")
    error = refused("far", tmp_path)
    assert error.kind == "unreachable" and "Remote Login" in error.fix


def test_one_that_accepts_and_says_nothing(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        (tmp_path / ".ssh").mkdir()
        config = f"Host mute\n HostName 127.0.0.1\n Port {listener.getsockname()[1]}\n User train\n"
        (tmp_path / ".ssh" / "config").write_text(config)
        begun = time.monotonic()
        error = refused("mute", tmp_path, timeout=Seconds(0.5))
    assert time.monotonic() - begun < 12  # paramiko itself would wait for a banner for 15 s
    assert error.kind == "unreachable" and "sends no banner" in error.message


def test_this_machine_needs_no_ssh():
    here = client.LocalConnection()
    assert here.run(["cat"], Seconds(5), stdin="x") == client.CommandResult(0, "x", "")
    assert here.run(["/no/such/program"], Seconds(5)).returncode == 127
    with pytest.raises(client.SshError, match="no answer within"):
        here.run(["sleep", "5"], Seconds(0.2))
