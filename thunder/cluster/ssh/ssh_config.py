"""Resolve host names with the user's SSH config, and define the ways in which SSH can fail."""

from __future__ import annotations

import os
import pwd
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import paramiko

from thunder.errors import ClusterError

SshErrorKind = Literal["unreachable", "unknown key", "changed key", "refused", "config", "no answer"]


class SshError(ClusterError):
    """A host cannot be reached over SSH, or a command on it does not answer. kind: the kind of failure."""

    def __init__(self, kind: SshErrorKind, message: str, fix: str = "") -> None:
        super().__init__(message, fix)
        self.kind: SshErrorKind = kind


@dataclass(frozen=True)
class SshTarget:
    """Address, keys and options of a host by the user's SSH config."""

    name: str
    address: str
    port: int = 22
    user: str | None = None
    identities: tuple[str, ...] = ()
    known_hosts: tuple[Path, ...] = ()
    jump: str | None = None
    only_identities: bool = False
    alias: str | None = None

    @property
    def known_as(self) -> str:
        """The name under which the host's key is stored in known_hosts."""
        name = self.alias or self.address
        return name if self.port == 22 else f"[{name}]:{self.port}"


def passwd_home() -> Path:
    """Return the home folder of the user database, as OpenSSH does; $HOME is ignored."""
    return Path(pwd.getpwuid(os.getuid()).pw_dir)


def resolve_ssh_target(name: str, home: Path | None = None) -> SshTarget:
    """Look up a name (`host` or `user@host`) in ~/.ssh/config; a name without an entry is used as the address.

    Raises SshError if the config cannot be read, or contains an option that this client does not support.
    """
    home = home or passwd_home()
    user, _, host = name.rpartition("@")
    path = home / ".ssh" / "config"
    try:
        config = paramiko.SSHConfig.from_path(str(path)) if path.is_file() else paramiko.SSHConfig()
        options = dict(config.lookup(host))
    except (paramiko.SSHException, OSError, UnicodeDecodeError, ImportError) as error:
        raise SshError("config", f"{path} cannot be used: {error}", fix=f"ssh -G {shlex.quote(host)}") from None
    if options.get("proxycommand", "none") != "none":
        raise SshError("config", f"{path}: ProxyCommand for {host!r} is not supported here", fix="write ProxyJump")
    port = str(options.get("port", 22))
    if not port.isdigit():
        raise SshError("config", f"{path}: Port {port!r} for {host!r} is not a number", fix=f"correct {path}")
    files = shlex.split(options.get("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2"))
    jump = options.get("proxyjump", "none")
    return SshTarget(
        name=name,
        address=options.get("hostname", host),
        port=int(port),
        user=user or options.get("user"),
        identities=tuple(str(_expand_home(each, home)) for each in options.get("identityfile", [])),
        known_hosts=tuple(_expand_home(each, home) for each in files),
        jump=None if jump == "none" else jump,
        only_identities=options.get("identitiesonly", "no") == "yes",
        alias=options.get("hostkeyalias"),
    )


def _expand_home(path: str, home: Path) -> Path:
    """Expand ~ in a path of the config as OpenSSH does."""
    return home / path[2:] if path.startswith("~/") else Path(path)
