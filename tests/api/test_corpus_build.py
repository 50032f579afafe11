"""Corpora from Python: typed results beside what the commands write."""

from __future__ import annotations

import json

from conftest import write_rows

from thunder import build_corpus
from thunder.corpora.builders import sample_corpus


def test_a_corpus_is_built_from_rows(tmp_path):
    samples = [{"hyp": row["asr_text"], "ref": row["reference_text"]} for row in sample_corpus.generate_samples(5, 60)]
    rows = write_rows(tmp_path / "rows.jsonl", samples)
    # sentences of the sample grammar share phrases
    found = build_corpus([rows], out=str(tmp_path / "corpus"), near_duplicates="keep", test_share=0.2)
    assert found.folder == tmp_path / "corpus" and 0 < sum(found.rows.values()) <= 60
    assert found.rows.keys() == found.cer.keys() and all(rate > 0 for rate in found.cer.values())
    stored = json.loads((found.folder / "manifest.json").read_text(encoding="utf-8"))
    assert stored["parts"] == json.loads(json.dumps(found.manifest["parts"]))
