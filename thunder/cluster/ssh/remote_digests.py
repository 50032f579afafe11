"""SHA-256 digests of files on another host."""

from __future__ import annotations

from collections.abc import Iterable

from thunder.cluster.ssh.client import Connection
from thunder.errors import ClusterError
from thunder.units import Seconds

DIGEST_TIMEOUT = Seconds(600)  # weights of several GB are read there
# a Mac has shasum, Linux sha256sum; names come line by line, so that any number of them fits
_PROGRAM = """cd "$1" || exit 9
if command -v sha256sum >/dev/null; then sum() { sha256sum; }; else sum() { shasum -a 256; }; fi
while IFS= read -r name; do
  if [ -f "$name" ]; then said=$(sum < "$name") && printf '%s %s\\n' "${said%% *}" "$name"; fi
done"""


def remote_file_digests(
    connection: Connection, folder: str, names: Iterable[str], timeout: Seconds = DIGEST_TIMEOUT
) -> dict[str, str]:
    """Name -> SHA-256 (hex) of the files below a folder there; those that are not there are left out.

    Raises ClusterError where there is no such folder, SshError where the host does not answer.
    """
    listed = "".join(f"{name}\n" for name in names)
    done = connection.run(["sh", "-c", _PROGRAM, "sh", folder], timeout, listed)
    if done.returncode:
        raise ClusterError(f"{folder}: {done.stderr.strip() or 'cannot be read'} (on the other host)", "check the path")
    pairs = (line.partition(" ") for line in done.stdout.splitlines())
    return {name: sha256 for sha256, _, name in pairs}
