"""The request that an agent accepts: one `thunder rank` in a run's folder, and nothing else. No side effects."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from thunder.cluster.inventory.cluster_file import EnvValue, PlainText, check_env_names, check_ring_address
from thunder.cluster.inventory.rank_plan import HOSTFILE
from thunder.cluster.ranks.protocol import PROTOCOL
from thunder.config import Settings
from thunder.errors import UsageError

# The words between the interpreter (the agent's own) and the run's folder.
RANK_COMMAND = ["-P", "-m", "thunder", "rank"]
# Files that may be written into a run's folder before its rank starts.
RUN_FILES = ("config.yaml", "plan.json", "environment.json", HOSTFILE)


def _check_listen_address(text: str) -> str:
    """Check an address of the ring with its port; raises ValueError."""
    ip, _, port = text.rpartition(":")
    check_ring_address(ip)
    if not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536):
        raise ValueError("expected 'ip:port'")
    return text


def _check_file_names(files: dict[str, str]) -> dict[str, str]:
    for name in files:
        if name not in RUN_FILES:
            raise ValueError(f"{name!r} is not one of the files of a run: {', '.join(RUN_FILES)}")
    return files


class StartRequest(Settings):
    """A launcher's request to an agent. folder, argv, env: see RankPlan; files: name -> text, for the folder."""

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
    """Parse a message into a request.

    Raises UsageError if it is malformed, of another protocol version, or asks for anything but a rank.
    """
    # another version may have unknown fields: report the version first
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
        raise UsageError(f"the agent starts only ranks, not {' '.join(request.argv[1:])[:200]!r}")
    return request
