"""Progress of answers without a terminal: a line now and then, with the speed since the first answer."""

from __future__ import annotations

from thunder.cli.console import answer_progress


def test_lines_come_every_ten_seconds_with_speed_and_time_left(capsys, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(answer_progress.time, "monotonic", lambda: clock[0])
    with answer_progress.AnswerProgress(50) as progress:
        progress(10, 50)  # an evaluation that continues: 10 answers were there before
        for seconds, done in ((4.0, 14), (8.0, 18), (11.0, 21), (12.0, 22)):
            clock[0] = 100.0 + seconds
            progress(done, 50)
    output = capsys.readouterr()
    assert (output.out, progress.done) == ("", 22)
    # 11 answers in 11 s, and 29 that are left
    assert output.err.splitlines() == [f"answered 21/50, 1.0 rows/s  ETA {answer_progress.format_seconds(29)}"]
