"""The test rows of a LoRA run on its page: outcomes and error rates counted again from the texts."""

from __future__ import annotations

import pytest
from report_runs import TEXTS, adapter_run_folder, read

from thunder.text import distance

adapter = pytest.fixture(adapter_run_folder)


def test_an_adapter(adapter):
    page = read(adapter)
    assert page.absent == [] and page.title == "adapter"
    assert [(row.outcome, row.before, row.after) for row in page.rows] == [
        ("improved", 1, 0), ("worse", 0, 3), ("worse", 0, 1)
    ]  # fmt: skip
    assert [each.of for each in page.rows[0].lines] == ["reference", "recognized", "base's answer", "correction"]
    assert page.rows[1].reasons == ["longer"]
    wanted, edits = sum(len(each[0]) for each in TEXTS), sum(distance.edit_distance(each[1], each[0]) for each in TEXTS)
    assert page.cards[0][0].endswith(f"→ {edits / wanted:.4f}")
    assert ("2.0000", "best validation loss, at step 5") in page.cards and ("0", "restarts") in page.cards
    assert dict(page.facts).items() >= {"model": "tiny", "seed": "7", "chip": "M4", "commit": "c" * 12}.items()
    assert {"loss", "partition", "base", "confusions", "flags"} <= {each.name for each in page.sections}
