"""What an agent may be asked to start: one rank of ours in a run's folder, and nothing else. Pure."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from thunder.cluster.inventory.cluster_file import Plain, Value, ring_address, variables
from thunder.cluster.inventory.rank_plan import HOSTFILE
from thunder.cluster.ranks.protocol import PROTOCOL
from thunder.config import Settings
from thunder.errors import UsageError

# What comes after the interpreter, which is the agent's own, and before the run's folder.
RANK = ["-P", "-m", "thunder", "rank"]
# What a run's folder is given before its rank starts.
FILES = ("config.yaml", "plan.json", "environment.json", HOSTFILE)


def _listening(text: str) -> str:
    """An address of the ring with its port; raises ValueError."""
    ip, _, port = text.rpartition(":")
    ring_address(ip)
    if not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536):
        raise ValueError("expected 'ip:port'")
    return text


def _known(files: dict[str, str]) -> dict[str, str]:
    for name in files:
        if name not in FILES:
            raise ValueError(f"{name!r} is none of the files that a run is given: {', '.join(FILES)}")
    return files


class Request(Settings):
    """What a launcher asks an agent to start. folder, argv, env: see RankPlan; files: name -> text, for the folder."""

    protocol: int
    rank: int = Field(ge=0)
    host: Plain
    folder: Plain
    argv: list[Plain] = Field(min_length=1)
    env: Annotated[dict[Plain, Value], AfterValidator(variables)]
    addresses: list[Annotated[str, AfterValidator(_listening)]] = Field(min_length=1)
    files: Annotated[dict[str, str], AfterValidator(_known)]
    transient: bool = False


def read(message: dict[str, Any]) -> Request:
    """The request that a message is.

    Raises UsageError where it is none, is of another version, or asks for anything but a rank.
    """
    # another version may ask for what this one does not know: say first that it is another
    said = message.get("protocol")
    if isinstance(said, int) and said != PROTOCOL:
        raise UsageError(
            f"the launcher speaks protocol {said}, the agent on {str(message.get('host'))[:100]} {PROTOCOL}",
            fix="bring both to the same version: git pull && ./launch.sh setup",
        )
    try:
        request = Request.model_validate(message)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))[:100]
        raise UsageError(f"the agent was sent a request it cannot use: {where}: {fault['msg'][:500]}") from None
    if request.argv[1:6] != [*RANK, request.folder]:
        raise UsageError(f"the agent starts ranks alone, not {' '.join(request.argv[1:])[:200]!r}")
    return request
