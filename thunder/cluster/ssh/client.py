"""Connect to hosts over SSH with the user's own config, keys, agent and known hosts; unknown host keys are rejected."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import logging
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Protocol

import paramiko

from thunder.cluster.ssh.ssh_config import SshError, SshTarget, resolve_ssh_target
from thunder.units import Seconds

CONNECT_TIMEOUT = Seconds(5)
MAX_OUTPUT_BYTES = 1_000_000  # bytes kept of each stream, so that a host cannot fill this machine's memory
SYSTEM_KNOWN_HOSTS = Path("/etc/ssh/ssh_known_hosts")
_NULL_HANDLER = (
    logging.NullHandler()
)  # without a handler paramiko prints tracebacks to stderr; SshError reports the same


@dataclass(frozen=True)
class CommandResult:
    """Exit code and output of a command that ended."""

    returncode: int
    stdout: str
    stderr: str


class Connection(Protocol):
    """A host on which commands can be run."""

    def run(self, argv: Sequence[str], timeout: Seconds, stdin: str = "") -> CommandResult:
        """Run a command to its end; raises SshError if it takes longer than `timeout`."""
        ...

    def close(self) -> None:
        """Close the connection; commands that still run on it end."""
        ...


def connect_ssh(name: str, home: Path | None = None, timeout: Seconds = CONNECT_TIMEOUT) -> SshConnection:
    """Open a connection to a host; each stage (TCP, banner, key exchange, log-in) may take `timeout` seconds.

    Raises SshError that names the kind of failure and the command that fixes it.
    """
    logging.getLogger("paramiko").addHandler(_NULL_HANDLER)
    target = resolve_ssh_target(name, home)
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(_RejectUnknownKey(target))
    jumped = None
    try:
        for path in (SYSTEM_KNOWN_HOSTS, *target.known_hosts):
            if path.is_file():
                client.get_host_keys().load(str(path))
        if target.alias:
            _register_alias_keys(client, target)
        if target.jump:
            if "," in target.jump:
                raise SshError("config", f"{name}: ProxyJump over several hosts is not supported here")
            jumped = connect_ssh(target.jump, home, timeout)
        client.connect(
            target.address,
            target.port,
            username=target.user,
            key_filename=[each for each in target.identities if Path(each).is_file()] or None,
            timeout=timeout,
            banner_timeout=timeout * 0.8,  # shorter than the key exchange, so that the error can name a missing banner
            auth_timeout=timeout,
            channel_timeout=timeout,
            look_for_keys=not target.only_identities,
            sock=jumped.tunnel(target.address, target.port, timeout) if jumped else None,
        )
    except BaseException as error:
        transport = client.get_transport()
        greeted = transport is not None and transport.initial_kex_done
        client.close()
        if jumped:
            jumped.close()
        _raise_ssh_error(error, target, timeout, greeted)
    return SshConnection(target, client, jumped)


class SshConnection:
    """An open SSH connection. Each command has its own channel, so several commands can run at once."""

    def __init__(self, target: SshTarget, client: paramiko.SSHClient, jumped: SshConnection | None = None) -> None:
        self.target, self._client, self._jump_connection = target, client, jumped

    def __enter__(self) -> SshConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; commands that still run on it end."""
        self._client.close()
        if self._jump_connection:
            self._jump_connection.close()

    def tunnel(self, address: str, port: int, timeout: Seconds) -> paramiko.Channel:
        """Open a channel to an address that this host can reach."""
        return self._transport().open_channel("direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=timeout)

    def run(self, argv: Sequence[str], timeout: Seconds, stdin: str = "") -> CommandResult:
        """Run a command to its end. Its words are quoted for the remote shell.

        Raises SshError if the command does not end within `timeout` or the connection is lost.
        """
        until = time.monotonic() + timeout
        try:
            with contextlib.closing(self._transport().open_session(timeout=timeout)) as channel:
                channel.settimeout(timeout)
                channel.exec_command(shlex.join(argv))
                channel.sendall(stdin.encode())
                channel.shutdown_write()
                streams = _read_streams(channel, until)
                return CommandResult(channel.recv_exit_status(), *(text.decode(errors="replace") for text in streams))
        except (TimeoutError, EOFError, OSError, paramiko.SSHException) as error:
            why = f"no answer within {timeout:g} s" if isinstance(error, TimeoutError) else str(error) or "lost"
            raise SshError("no answer", f"{self.target.name}: {shlex.join(argv)[:80]}: {why}") from None

    def start(self, argv: Sequence[str], timeout: Seconds = CONNECT_TIMEOUT) -> paramiko.Channel:
        """Start a command and return its channel: reads give what the command prints, writes are its input.

        A read never blocks (it raises TimeoutError); a write blocks for `timeout` at most. Raises SshError if the
        connection is lost.
        """
        try:
            channel = self._transport().open_session(timeout=timeout)
            channel.set_combine_stderr(True)
            channel.exec_command(shlex.join(argv))
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise SshError("no answer", f"{self.target.name}: {shlex.join(argv)[:80]}: {error or 'lost'}") from None
        channel.settimeout(0.0)
        return channel

    def fetch(self, remote_path: str, local_path: Path) -> None:
        """Copy one remote file to this machine. The copy is written under a temporary name and then renamed.

        Raises SshError if the file cannot be copied.
        """
        beside = local_path.with_name(f".{local_path.name}.{os.getpid()}.tmp")
        try:
            with contextlib.closing(self._client.open_sftp()) as sftp:
                sftp.get(remote_path, str(beside))
            os.replace(beside, local_path)
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise SshError("no answer", f"{self.target.name}: {remote_path} cannot be copied: {error}") from None
        finally:
            beside.unlink(missing_ok=True)

    def _transport(self) -> paramiko.Transport:
        transport = self._client.get_transport()
        if transport is None or not transport.is_active():
            raise SshError("no answer", f"{self.target.name}: the ssh connection was lost")
        return transport


class LocalConnection:
    """Run commands on this machine without SSH."""

    def run(self, argv: Sequence[str], timeout: Seconds, stdin: str = "") -> CommandResult:
        """Run a command to its end."""
        try:
            done = subprocess.run(argv, input=stdin.encode(), capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise SshError("no answer", f"{argv[0]}: no answer within {timeout:g} s") from None
        except OSError as error:
            return CommandResult(127, "", f"{argv[0]}: {error.strerror}")
        return CommandResult(
            done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )

    def close(self) -> None:
        """Do nothing: no connection is open."""


class _RejectUnknownKey(paramiko.MissingHostKeyPolicy):
    """Reject a host key that is not in known_hosts, and say how to add it."""

    def __init__(self, target: SshTarget) -> None:
        self.target = target

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> NoReturn:
        raise SshError(
            "unknown key",
            f"{self.target.name}: its key {key_fingerprint(key)} is not in {_known_hosts_file(self.target)} "
            f"as {self.target.known_as}",
            fix=f"{_keyscan_command(self.target)}   # first compare, on that host: "
            "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
        )


def key_fingerprint(key: paramiko.PKey) -> str:
    """Return a key's fingerprint in the format of `ssh-keygen -l`: 'SHA256:...'."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")


def _read_streams(channel: paramiko.Channel, until: float) -> tuple[bytes, bytes]:
    """Read stdout and stderr of a command to its end; bytes past MAX_OUTPUT_BYTES are read and dropped."""
    streams = bytearray(), bytearray()
    while True:
        ended = channel.exit_status_ready() and channel.eof_received
        quiet = True
        for stream, ready, read in zip(
            streams,
            (channel.recv_ready, channel.recv_stderr_ready),
            (channel.recv, channel.recv_stderr),
            strict=True,
        ):
            while ready() and time.monotonic() < until:
                data, quiet = read(65536), False
                stream += data[: MAX_OUTPUT_BYTES - len(stream)]
        if ended and quiet:
            return bytes(streams[0]), bytes(streams[1])
        if channel.closed and quiet:
            raise EOFError("the connection was lost")
        if time.monotonic() > until:
            raise TimeoutError
        if quiet:
            time.sleep(0.01)


def _register_alias_keys(client: paramiko.SSHClient, target: SshTarget) -> None:
    """HostKeyAlias: accept only the keys stored under the alias. paramiko looks keys up by address, so re-register
    them.
    """
    keys = client.get_host_keys()
    known = dict(keys.lookup(target.known_as) or {})
    keys.clear()
    for kind, key in known.items():
        keys.add(target.address if target.port == 22 else f"[{target.address}]:{target.port}", kind, key)


def _known_hosts_file(target: SshTarget) -> Path:
    return target.known_hosts[0] if target.known_hosts else Path("~/.ssh/known_hosts")


def _keyscan_command(target: SshTarget) -> str:
    port = ["-p", str(target.port)] if target.port != 22 else []
    return f"{shlex.join(['ssh-keyscan', *port, target.address])} >> {shlex.quote(str(_known_hosts_file(target)))}"


def _raise_ssh_error(error: BaseException, target: SshTarget, timeout: Seconds, greeted: bool) -> NoReturn:
    """Raise an SshError that explains a failed connection; an error of another kind is raised unchanged.

    greeted: the host's key was exchanged, so the log-in failed, or reading one of the user's key files for it.
    """
    where = f"{target.name} ({target.user + '@' if target.user else ''}{target.address}:{target.port})"
    if isinstance(error, SshError):
        raise error
    if isinstance(error, paramiko.BadHostKeyException):
        offered = key_fingerprint(error.key)
        forget = shlex.join(["ssh-keygen", "-f", str(_known_hosts_file(target)), "-R", target.known_as])
        raise SshError(
            "changed key",
            f"{target.name}: its key is {offered}, which differs from the key in {_known_hosts_file(target)}: "
            "the host was reinstalled, or it is another machine",
            fix=f"{forget} && {_keyscan_command(target)}   # only if you know why it changed",
        ) from None
    if isinstance(error, paramiko.SSHException) and greeted:
        raise SshError(
            "refused",
            f"{where} accepts none of your keys: {error}",
            fix=f"{shlex.join(['ssh-copy-id', target.name])}   # with a passphrase: ssh-add first",
        ) from None
    if isinstance(error, paramiko.SSHException | OSError | EOFError):
        raise SshError("unreachable", f"{where}: {_reason(error, timeout)}", _connection_fix(error, target)) from None
    raise error


def _reason(error: BaseException, timeout: Seconds) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(error, paramiko.ssh_exception.NoValidConnectionsError):
        return ", ".join({str(each.strerror or each) for each in error.errors.values()})
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if "banner" in str(error) or "No existing session" in str(error):
        return "it accepts the connection but sends no banner: frozen, overloaded, or no ssh server"
    return str(error) or "the connection was closed"


def _connection_fix(error: BaseException, target: SshTarget) -> str:
    ssh = shlex.join(["ssh", "-v", target.name, "true"])
    if isinstance(error, socket.gaierror):
        return f"give {target.name} a HostName in ~/.ssh/config, then: {ssh}"
    numbers = [error.errno] if isinstance(error, OSError) else []
    if isinstance(error, paramiko.ssh_exception.NoValidConnectionsError):
        numbers = [each.errno for each in error.errors.values()]
    if errno.ECONNREFUSED in numbers:
        return f"enable Remote Login on that host (System Settings, General, Sharing), then: {ssh}"
    return f"check that the host is on, awake and on the network; then: {ssh}"
