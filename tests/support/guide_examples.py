"""JSON examples of the how-to guides on experiments."""

from __future__ import annotations

import json
import re
from pathlib import Path

from thunder.config import REPOSITORY

NAMES = ("run-a-matrix", "test-a-hypothesis", "promote-a-claim")
GUIDES = [REPOSITORY / "docs" / "how-to" / f"{name}.md" for name in NAMES]
EXAMPLES = [
    json.loads(text)
    for guide in GUIDES
    for text in re.findall(r"```json\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
]


def written(tmp_path, key) -> Path:
    (one,) = [each for each in EXAMPLES if key in each]
    (tmp_path / "example.json").write_text(json.dumps(one))
    return tmp_path / "example.json"
