"""Commands in messages, as they work where they are printed: with ./launch.sh where `thunder` is not on the PATH."""

from __future__ import annotations

import re
import shutil

_SCRIPTS = {"thunder_status": "status", "eval_agp_nko_adapter": "eval"}  # console script -> its command
_COMMAND = re.compile(rf"\b(?:thunder (?=[a-z])|({'|'.join(_SCRIPTS)})\b)")


def as_typed(text: str) -> str:
    """A message with each command of ours in the form that can be typed here."""
    if shutil.which("thunder"):
        return text
    return _COMMAND.sub(lambda found: f"./launch.sh {_SCRIPTS[found[1]]}" if found[1] else "./launch.sh ", text)
