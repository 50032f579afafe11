"""Compute SHA-256 digests of files on another host."""

from __future__ import annotations

from collections.abc import Iterable

from thunder.cluster.ssh.client import Connection
from thunder.errors import ClusterError
from thunder.units import Seconds

DIGEST_TIMEOUT = Seconds(600)  # the host reads weights of several GB
# macOS has shasum, Linux sha256sum; names come on stdin, one per line, so that their number is not limited
_PROGRAM = """cd "$1" || exit 9
if command -v sha256sum >/dev/null; then sum() { sha256sum; }; else sum() { shasum -a 256; }; fi
while IFS= read -r name; do
  if [ -f "$name" ]; then said=$(sum < "$name") && printf '%s %s\\n' "${said%% *}" "$name"; fi
done"""


def remote_file_digests(
    connection: Connection, folder: str, names: Iterable[str], timeout: Seconds = DIGEST_TIMEOUT
) -> dict[str, str]:
    """Return name -> SHA-256 (hex) of files below a remote folder; names without a file are left out.

    Raises ClusterError if the folder does not exist, SshError if the host does not answer.
    """
    listed = "".join(f"{name}\n" for name in names)
    done = connection.run(["sh", "-c", _PROGRAM, "sh", folder], timeout, listed)
    if done.returncode:
        raise ClusterError(f"{folder}: {done.stderr.strip() or 'cannot be read'} (on the other host)", "check the path")
    pairs = (line.partition(" ") for line in done.stdout.splitlines())
    return {name: sha256 for sha256, _, name in pairs}
