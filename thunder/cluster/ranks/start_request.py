"""What an agent may be asked to start: one rank of ours in a run's folder, and nothing else. Pure."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from thunder.cluster.inventory.cluster_file import EnvValue, PlainText, check_env_names, check_ring_address
from thunder.cluster.inventory.rank_plan import HOSTFILE
from thunder.cluster.ranks.protocol import PROTOCOL
from thunder.config import Settings
from thunder.errors import UsageError

# What comes after the interpreter, which is the agent's own, and before the run's folder.
RANK_COMMAND = ["-P", "-m", "thunder", "rank"]
# What a run's folder is given before its rank starts.
RUN_FILES = ("config.yaml", "plan.json", "environment.json", HOSTFILE)


def _check_listen_address(text: str) -> str:
    """An address of the ring with its port; raises ValueError."""
    ip, _, port = text.rpartition(":")
    check_ring_address(ip)
    if not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536):
        raise ValueError("expected 'ip:port'")
    return text


def _check_file_names(files: dict[str, str]) -> dict[str, str]:
    for name in files:
        if name not in RUN_FILES:
            raise ValueError(f"{name!r} is none of the files that a run is given: {', '.join(RUN_FILES)}")
    return files


class StartRequest(Settings):
    """What a launcher asks an agent to start. folder, argv, env: see RankPlan; files: name -> text, for the folder."""

    protocol: int
    rank: int = Field(ge=0)
    host: PlainText
    folder: PlainText
    argv: list[PlainText] = Field(min_length=1)
    env: Annotated[dict[PlainText, EnvValue], AfterValidator(check_env_names)]
    addresses: list[Annotated[str, AfterValidator(_check_listen_address)]] = Field(min_length=1)
    files: Annotated[dict[str, str], AfterValidator(_check_file_names)]
    transient: bool = False


def parse_start_request(message: dict[str, Any]) -> StartRequest:
    """The request that a message is.

    Raises UsageError where it is none, is of another version, or asks for anything but a rank.
    """
    # another version may ask for what this one does not know: say first that it is another
    protocol = message.get("protocol")
    if isinstance(protocol, int) and protocol != PROTOCOL:
        raise UsageError(
            f"the launcher speaks protocol {protocol}, the agent on {str(message.get('host'))[:100]} {PROTOCOL}",
            fix="bring both to the same version: git pull && ./launch.sh setup",
        )
    try:
        request = StartRequest.model_validate(message)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))[:100]
        raise UsageError(f"the agent was sent a request it cannot use: {where}: {fault['msg'][:500]}") from None
    if request.argv[1:6] != [*RANK_COMMAND, request.folder]:
        raise UsageError(f"the agent starts ranks alone, not {' '.join(request.argv[1:])[:200]!r}")
    return request
