import pytest
from conftest import TEST_DATA
from ngram_options import LINES, settings_for

from thunder.acoustic.decoding import arpa
from thunder.acoustic.decoding.ngram_training import EXCLUDED, UNLABELLED, NgramSettings, train_ngram
from thunder.errors import CorpusError
from thunder.text.alphabet import LATIN, NKO


def test_it_counts_what_is_heard_and_says_what_it_left_out(tmp_path):
    made = train_ngram(settings_for(tmp_path, LINES, order=3, holdout=0.3))
    assert made.left_out == {UNLABELLED: 1, "nothing that is heard": 1}
    assert made.texts + made.heldout_texts == 6 and made.heldout_texts > 0
    assert made.ngrams[0] == len(LATIN.labels) + 2
    model = arpa.read_arpa(tmp_path / "x.arpa")
    assert model.order == 3 and "!" not in model.symbols
    # it has seen Bambara: far from the 53 characters of no knowledge, not as sure as of its own text
    assert made.perplexity is not None and 2 < made.perplexity < 40


def test_texts_of_a_test_are_not_counted(tmp_path):
    rows = tmp_path / "metadata.jsonl"
    rows.write_text('{"text": "a ni sɔgɔma"}\n{"transcript": "x", "text_latin": "N ye ji min!"}\n', encoding="utf-8")
    made = train_ngram(settings_for(tmp_path, LINES, exclude=[str(rows)], holdout=0.0))
    assert made.left_out[EXCLUDED] == 2 and made.texts == 4 and made.perplexity is None
    rows.write_text('{"text": "a"}\n{"id": "b"}\nno json\n', encoding="utf-8")
    with pytest.raises(CorpusError) as caught:
        train_ngram(settings_for(tmp_path, LINES, exclude=[str(rows)]))
    assert f"{rows}:2: has none of text" in caught.value.message and f"{rows}:3: not JSON" in caught.value.message


def test_the_same_text_makes_the_same_file(tmp_path):
    settings = settings_for(tmp_path, LINES)
    assert train_ngram(settings).sha256 == train_ngram(settings).sha256


def test_a_longer_order_foretells_real_text_better(tmp_path):
    rows = (TEST_DATA / "text" / "nllb_seed_nqo.tsv").read_text(encoding="utf-8").splitlines()
    found = []
    for order in (1, 3):
        path = tmp_path / "text.tsv"
        path.write_text("\n".join(rows), encoding="utf-8")
        out = str(tmp_path / "x.arpa")
        made = train_ngram(NgramSettings(text=[str(path)], script="nko", order=order, out=out, holdout=0.1))
        assert made.ngrams[0] == len(NKO.labels) + 2
        found.append(made.perplexity)
    assert found == sorted(found, reverse=True) and found[-1] < found[0] / 2


def test_text_of_another_script_is_refused_by_name(tmp_path):
    with pytest.raises(CorpusError, match=f"{UNLABELLED}: 6"):
        train_ngram(settings_for(tmp_path, LINES[:4] + LINES[6:], script="nko"))
