"""ARPA files: a model comes back from its file, and each fault of a file is named by its line."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ngram_texts import LABELS, TEXTS, named

from thunder.acoustic.decoding import arpa
from thunder.acoustic.decoding.ngram import UNKNOWN, estimate_ngram, measure_fit
from thunder.errors import ArtifactError


@given(TEXTS, st.integers(1, 4))
@settings(max_examples=25)
def test_a_model_comes_back_from_its_file_and_the_file_is_sorted(tmp_path_factory, texts, order):
    path = tmp_path_factory.mktemp("arpa") / "x.arpa"
    model = estimate_ngram(LABELS, texts, order)
    arpa.write_arpa(path, model)
    again = arpa.read_arpa(path)
    assert again.symbols == model.symbols
    for one, other in zip(model.tables, again.tables, strict=True):
        assert (one.keys == other.keys).all()
        assert np.allclose(one.log10, other.log10, atol=1e-7) and np.allclose(one.backoff, other.backoff, atol=1e-7)
    content = path.read_bytes()
    arpa.write_arpa(path, again)
    assert path.read_bytes() == content
    for section in content.decode().split("-grams:\n")[1:]:
        grams = [line.split("\t")[1].split(" ") for line in section.split("\n\n")[0].splitlines() if "\t" in line]
        assert grams == sorted(grams)


SOUND = """made by hand

\\data\\
ngram 1=4
ngram 2=3

\\1-grams:
-99\t<s>\t-0.3
-0.5\t</s>
-0.4\ta\t-0.2
-0.6\t<unk>

\\2-grams:
-0.1\t<s> a
-0.3\ta </s>
-0.2\ta a

\\end\\
"""


def test_a_model_of_others_is_read_in_any_order_with_unknown_symbols(tmp_path):
    path = tmp_path / "x.arpa"
    path.write_text(SOUND)
    graph = arpa.read_arpa(path).as_label_graph(("a", "z"))
    # p(z | <s>) = back-off of <s> times p(<unk>)
    assert graph.weights(np.zeros(1, int))[0, 1:] / np.log(10) == pytest.approx([-0.1, -0.3 - 0.6])
    assert UNKNOWN in arpa.read_arpa(path).symbols


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("\\data\\", "", 1, "not an ARPA file"),
        ("ngram 1=4", "ngram 1=5", 4, "announces 5 1-grams, the file has 4"),
        ("ngram 2=3", "ngram 3=3", 5, "expected 'ngram 2=COUNT'"),
        ("ngram 2=3", "ngram 2=x", 5, "expected 'ngram 2=COUNT'"),
        ("\\2-grams:", "\\3-grams:", 13, "section of 3-grams"),
        ("-0.4\ta", "0.4\ta", 10, "'0.4' is not the log10 of a probability"),
        ("-0.4\ta", "nan\ta", 10, "'nan' is not the log10"),
        ("-0.4\ta\t-0.2", "-0.4\ta\tinf", 10, "'inf' is not the log10 of a back-off"),
        ("-0.4\ta\t-0.2", "-0.4 a -0.2", 10, "between tabs"),
        ("-0.2\ta a", "-0.2\ta a\t-0.1", 16, "between tabs"),
        ("-0.2\ta a", "-0.2\ta a a", 16, "not a 2-gram"),
        ("-0.2\ta a", "-0.2\ta  a", 16, "not a 2-gram"),
        ("-0.2\ta a", "-0.2\ta z", 16, "without 'z' among the 1-grams"),
        ("-0.2\ta a", "-0.2\t<s> a", 16, "occurs twice"),
        ("-0.5\t</s>", "-0.5\tb", 15, "without '</s>'"),
        ("\\end\\\n", "", 18, "truncated"),
        ("\\end\\\n", "\\end\\\nmore\n", 19, "follows"),
    ],
)
def test_each_fault_of_a_file_is_named_by_its_line(tmp_path, old, new, line, said):
    assert old in SOUND
    path = tmp_path / "x.arpa"
    path.write_text(SOUND.replace(old, new, 1))
    with pytest.raises(ArtifactError) as caught:
        arpa.read_arpa(path)
    assert f"{path}:{line}: " in caught.value.message and said in caught.value.message


def test_all_faults_are_named_at_once_and_strange_bytes_too(tmp_path):
    path = tmp_path / "x.arpa"
    path.write_text(SOUND.replace("-0.4\ta", "1\ta").replace("-0.6\t<unk>", "x\t<unk>"))
    with pytest.raises(ArtifactError) as caught:
        arpa.read_arpa(path)
    assert f"{path}:10:" in caught.value.message and f"{path}:11:" in caught.value.message
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ArtifactError, match="byte 0 is not UTF-8"):
        arpa.read_arpa(path)
    with pytest.raises(ArtifactError, match="No such file"):
        arpa.read_arpa(tmp_path / "none.arpa")


def test_kenlm_reads_the_file_and_scores_alike(tmp_path):
    kenlm = pytest.importorskip("kenlm")
    draw = np.random.default_rng(5)
    texts = [draw.integers(1, 5, size=draw.integers(1, 9)).tolist() for _ in range(60)]
    model = estimate_ngram(LABELS, texts, 3)
    path = tmp_path / "x.arpa"
    arpa.write_arpa(path, model)
    theirs = kenlm.Model(str(path))
    for text in texts[:20]:
        ours = measure_fit(model, LABELS, [text]).log10
        assert theirs.score(" ".join(named(text)), bos=True, eos=True) == pytest.approx(ours, abs=1e-4)
