"""Progress bars: without a terminal they print nothing."""

from __future__ import annotations

from thunder.cli.console import progress_bars


def test_bars_without_a_terminal_print_nothing(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"12345")
    assert progress_bars.size_of([path, tmp_path / "none"]) == 5
    with progress_bars.files_bar([path]) as advance:
        advance(5)
    with progress_bars.rows_bar(3) as advance:
        advance(3)
    assert capsys.readouterr() == ("", "")
