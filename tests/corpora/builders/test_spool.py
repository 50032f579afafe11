"""The spool of a build: rows and their numbers come back in order, and the files go."""

from planted_rows import GOOD

from thunder.corpora.builders import spool
from thunder.corpora.builders.spool import RowSpool

ROW = GOOD | {"origin": "real", "evidence_class": "smoke"}


def spooled(folder, count=5):
    rows = [
        ROW | {"feat_id": f"f{n}", "reference_text": f"ߓߊ߬ {n}", "cer_edits": n, "mode": f"mode-{n % 2}"}
        for n in range(count)
    ]
    rows[3]["audio_id"] = "a2"
    written = RowSpool(folder)
    for row in rows:
        written.add(row)
    written.close()
    return rows, written


def test_rows_come_back_as_they_were_added(tmp_path):
    rows, written = spooled(tmp_path)
    assert len(written) == 5 and len(list(written.lines())) == 5
    assert list(written.rows({1, 3})) == [(1, rows[1]), (3, rows[3])]
    assert [written.edits(n) for n in range(5)] == [(n, 3) for n in range(5)]
    assert [written.kinds()[written.kind_number(n)][2] for n in range(5)] == [f"mode-{n % 2}" for n in range(5)]


def test_rows_of_one_recording_are_tied(tmp_path):
    _, written = spooled(tmp_path)
    marks = [written.ties.mark(node) for node in written.nodes]
    assert len(set(written.marks)) == 5
    assert marks[0] == marks[1] == marks[2] == marks[4] != marks[3]


def test_keys_of_selected_rows_come_in_batches(tmp_path, monkeypatch):
    _, written = spooled(tmp_path)
    monkeypatch.setattr(spool, "BATCH", 2)
    batches = list(written.keys([True, False, True, True, True]))
    assert [numbers for numbers, _ in batches] == [[0, 2], [3, 4]]
    assert [key[-1] for _, keys in batches for key in keys] == ["0", "2", "3", "4"]


def test_removal_leaves_nothing(tmp_path):
    _, written = spooled(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    written.remove()
    assert list(tmp_path.iterdir()) == []
