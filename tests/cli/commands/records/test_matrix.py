"""`thunder matrix check`: matrices that are shipped, and that of the guide, have no findings."""

from __future__ import annotations

import pytest
from guide_examples import written

from thunder.cli.main import main
from thunder.config import REPOSITORY


@pytest.mark.parametrize("file", sorted((REPOSITORY / "configs" / "matrices").glob("*")), ids=lambda file: file.name)
def test_a_matrix_that_is_shipped_is_fine(file, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    assert main(["matrix", "check", str(file)]) == 0


def test_the_matrix_of_the_guide_is_fine(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    assert main(["matrix", "check", str(written(tmp_path, "regime"))]) == 0
    assert "9 runs, 2 comparisons, no findings" in capsys.readouterr().out


def test_a_matrix_that_names_the_old_page_of_definitions_is_fine(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    file = written(tmp_path, "regime")
    file.write_text(file.read_text().replace("docs/explanation/modes.md", "docs/modes.md"))
    assert main(["matrix", "check", str(file)]) == 0
