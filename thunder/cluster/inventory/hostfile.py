"""Read mlx's hostfile (the format of `mlx.launch --hostfile`) into the keys of the cluster file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from thunder.errors import ConfigError


def read_hostfile(path: Path) -> dict[str, Any]:
    """Return a hostfile's content in the keys of the cluster file. The caller validates the values.

    Accepts a list of hosts, or a mapping with `hosts`. Raises ConfigError if the file cannot be read or has another
    form.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}", fix="give the path of a hostfile") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {error}", fix="see `mlx.launch --help` for the format") from None
    content = {"hosts": content} if isinstance(content, list) else content
    if not isinstance(content, dict) or not isinstance(content.get("hosts"), list):
        raise ConfigError(
            f"{path}: expected a list of hosts, or a mapping with `hosts`", fix='write [{"ssh": "...", "ips": ["..."]}]'
        )
    nowhere = [rank for rank, host in enumerate(content["hosts"], 1) if isinstance(host, dict) and not host.get("ssh")]
    if nowhere:
        raise ConfigError(f"{path}: host {nowhere[0]} has no 'ssh'", fix="write 127.0.0.1 if it is this machine")
    values = {key: value for key, value in content.items() if key != "envs"}
    values["hosts"] = [_named_host(host, rank, content["hosts"]) for rank, host in enumerate(content["hosts"])]
    envs = content.get("envs", [])
    given = envs if isinstance(envs, list) else [envs]
    wrong = [each for each in given if not isinstance(each, str) or "=" not in each]
    if wrong:
        raise ConfigError(f"{path}: envs: {wrong[0]!r} is not of the form NAME=VALUE", fix=f"correct {path}")
    return values | {"env": dict(each.split("=", 1) for each in given)}


def _named_host(host: Any, rank: int, hosts: list[Any]) -> Any:
    """Give a host of mlx's hostfile a name: its SSH name, with its number if several ranks share it."""
    if not isinstance(host, dict):
        return host
    ssh = host.get("ssh")
    shared = sum(isinstance(other, dict) and other.get("ssh") == ssh for other in hosts) > 1
    named = {"name": f"{ssh}-{rank}" if shared else ssh} | host
    return named | {"rdma": host.get("rdma") or None}  # mlx writes [] where there is none
