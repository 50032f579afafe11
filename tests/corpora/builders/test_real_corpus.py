import json
import random
import shutil

import pytest
from conftest import SHARED_DATA, needs_shared_data, write_rows
from planted_rows import pairs
from rapidfuzz.distance import Levenshtein

from thunder import digest
from thunder.corpora.builders.corpus_checks import count_leaks
from thunder.corpora.builders.real_corpus import build_agp_nko_correction_chatml
from thunder.corpora.corpus_settings import BuildSettings
from thunder.corpora.rows.chat_rows import read_rows
from thunder.corpora.splits import eval_only, near_duplicates
from thunder.corpora.splits.split_by_reference import LinkedRows, part_of_mark, text_mark
from thunder.errors import CorpusError, UsageError


@pytest.fixture
def make(tmp_path):
    def make(rows, out="corpus", **options):
        source = write_rows(tmp_path / "rows.jsonl", rows)
        settings = BuildSettings(inputs=[str(source)], out=str(tmp_path / out), **options)
        return tmp_path / out, build_agp_nko_correction_chatml(settings)

    return make


def rows_of(path, part):
    file = path / f"{part}.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def test_parts_are_what_training_reads_and_nothing_is_lost(make):
    out, manifest = make(pairs(300), test_share=0.2, valid_share=0.1)
    parts = {part: rows_of(out, part) for part in ("train", "valid", "test")}
    for part, rows in parts.items():
        corpus = read_rows(out / f"{part}.jsonl")
        assert [row.reference for row in corpus.rows] == [row["reference_text"] for row in rows]
        assert corpus.errors_before.edits == manifest["parts"][part]["edits"]
        assert all(row["split"] == part for row in rows)
    real = [row for rows in parts.values() for row in rows if row["origin"] == "real"]
    assert len(real) + sum(manifest["left_out"].values()) == 300
    references = [{row["reference_text"] for row in rows} for rows in parts.values()]
    assert not references[0] & references[1] and not references[0] & references[2] and not references[1] & references[2]
    assert 30 <= len(parts["test"]) <= 90 and 10 <= len(parts["valid"]) <= 50


def test_the_same_bytes_again_and_another_manifest_after_one_byte(make, tmp_path):
    rows = pairs(80)
    digests = []
    for out in ("one", "two"):
        path, _ = make(rows, out, synthetic_share=0.3)
        digests.append({file.name: digest.sha256_file(file) for file in path.iterdir()})
    assert digests[0] == digests[1]
    rows[7]["before"] += "ߓ"
    path, _ = make(rows, "three", synthetic_share=0.3)
    assert digest.sha256_file(path / "manifest.json") != digests[0]["manifest.json"]


def test_one_reference_is_never_in_two_parts_and_recordings_stay_together(make):
    rows = pairs(60)
    for number, row in enumerate(rows):
        row["audio_id"] = f"recording-{number // 3}"
    rows += [row | {"before": row["before"] + "ߓ"} for row in rows]
    out, _ = make(rows, test_share=0.3, valid_share=0.2, near_duplicates="keep", identity_share=0.0)
    where = {}
    for part in ("train", "valid", "test"):
        for row in rows_of(out, part):
            for name in (row["reference_text"], row["audio_id"]):
                assert where.setdefault(name, part) == part
    assert set(where.values()) == {"train", "valid", "test"}


def planted(rows, salt="thunder"):
    """Rows with 20 more, each a training reference that holds 20 characters of a test reference."""
    where = [part_of_mark(text_mark(near_duplicates.comparable_key(row["after"])), salt, 0.05, 0.1) for row in rows]
    test = [row for row, part in zip(rows, where, strict=True) if part == "test" and len(row["after"]) > 24]
    more = []
    for number in range(1000):
        base = pairs(1, seed=1000 + number)[0]
        donor = test[number % len(test)]["after"]
        reference = f"{base['after']} {near_duplicates.comparable_key(donor)[2:22]} ߓߊ"
        if part_of_mark(text_mark(near_duplicates.comparable_key(reference)), salt, 0.05, 0.1) == "train":
            more.append({"id": f"planted-{len(more)}", "before": base["before"], "after": reference})
        if len(more) == 20:
            return rows + more
    raise AssertionError


def test_twenty_planted_near_duplicates_are_found(make, tmp_path):
    rows = pairs(400)
    assert make(rows, "clean", identity_share=0.0)[1]["left_out"] == {}
    out, manifest = make(planted(rows), identity_share=0.0)
    assert manifest["left_out"] == {"near duplicates of held-out rows": 20}
    assert not [row for row in rows_of(out, "train") if row["feat_id"].startswith("planted")]
    with pytest.raises(
        CorpusError, match=r"20 rows are near duplicates of a held-out one \(20 shared code points"
    ) as caught:
        make(planted(rows), near_duplicates="refuse")
    assert caught.value.message.count("(train) shares a stretch of text with rows.jsonl:") == 20
    _, manifest = make(planted(rows), near_duplicates="keep")
    assert manifest["notes"]["near duplicates of held-out rows, kept"] == 20


def test_one_letter_twins_of_short_held_out_rows_are_kept_out_of_training(make):
    """Words of 6 letters, each with a twin that differs in the last one: no twin of a held-out word is trained on."""
    draw = random.Random(3)
    stems = ["".join(draw.choices("ߓߕߖߗߘߙߛߝߞߟ", k=5)) for _ in range(300)]
    texts = [stem + vowel for stem in stems for vowel in "ߊߏ"]
    rows = [{"id": f"row-{n}", "before": text + "ߓ", "after": text} for n, text in enumerate(texts)]
    with pytest.raises(CorpusError, match=r"\(train\) differs by few edits from rows.jsonl"):
        make(rows, near_duplicates="refuse", test_share=0.2)
    out, manifest = make(rows, test_share=0.2, identity_share=0.0)
    held = [row["reference_text"] for part in ("valid", "test") for row in rows_of(out, part)]
    trained = [row["reference_text"] for row in rows_of(out, "train")]
    assert not any(Levenshtein.distance(one, other) <= 1 for one in trained for other in held)
    left_out = manifest["left_out"]["near duplicates of held-out rows, by edits"]
    assert left_out + len(held) + len(trained) == 600 and left_out > 60
    assert count_leaks(out, manifest)["near_duplicates"] == 0
    # without the search by edits the twins are in training, and a check with the default criteria finds them
    out, manifest = make(rows, test_share=0.2, near_duplicate_edits=0.0, identity_share=0.0)
    assert manifest["left_out"] == {}
    found = count_leaks(out, manifest | {"settings": {}})
    assert (found["by_shared_stretch"], found["by_edits"]) == (0, left_out)
    assert found["compared_texts"] > found["held_out_texts"] > 60


def test_the_error_model_knows_nothing_of_held_out_rows(make):
    rows = pairs(200)
    for row in rows:
        key = near_duplicates.comparable_key(row["after"])
        if part_of_mark(text_mark(key), "thunder", 0.05, 0.1) != "train":
            row["before"] = row["after"].replace("ߊ", "ߐ")
    out, manifest = make(rows)
    model = json.loads((out / "confusions.json").read_text(encoding="utf-8"))
    assert model["changes"]["ߊ"].keys() <= {"ߊ", ""}
    assert manifest["channel"]["pairs"] == sum(row["origin"] == "real" for row in rows_of(out, "train"))


def test_real_rows_come_first_and_shares_are_as_asked(make):
    out, manifest = make(pairs(200), identity_share=0.2, synthetic_share=0.4)
    rows = rows_of(out, "train")
    origins = [row["origin"] for row in rows]
    assert origins == sorted(origins, key=["real", "identity", "synthetic"].index)
    assert origins.count("synthetic") / len(rows) == pytest.approx(0.4, abs=0.01)
    given = [row for row in rows if row["origin"] != "synthetic"]
    assert sum(row["cer_edits"] == 0 for row in given) / len(given) == pytest.approx(0.2, abs=0.01)
    assert all(row["asr_text"] == row["reference_text"] for row in rows if row["origin"] == "identity")
    assert {row["evidence_class"] for row in rows if row["origin"] != "real"} == {"synthetic"}
    assert {row["origin"] for part in ("valid", "test") for row in rows_of(out, part)} == {"real"}
    assert manifest["parts"]["train"]["origin"] == {kind: origins.count(kind) for kind in sorted(set(origins))}
    made = [row for row in rows if row["origin"] == "synthetic"]
    cer = sum(row["cer_edits"] for row in made) / sum(row["reference_chars"] for row in made)
    assert cer == pytest.approx(manifest["synthetic_errors"]["target_cer"], rel=0.1)


def test_rows_beyond_a_rate_are_left_out_and_counted(make):
    rows = pairs(50) + [{"before": "ߓߓߓߓ", "after": row["after"]} for row in pairs(7, seed=9)]
    assert make(rows, max_cer=0.5)[1]["left_out"] == {"beyond --max-cer": 7}


# benchmarks


@pytest.fixture
def benchmark(monkeypatch):
    """Make some references sentences of a benchmark."""

    def mark(*references):
        marks = {int(eval_only.digest_line(reference), 16) for reference in references}
        monkeypatch.setattr(eval_only, "_sentences", lambda: frozenset(marks))

    return mark


def test_sentences_of_a_benchmark_are_never_trained_on(make, benchmark):
    rows = pairs(100)
    benchmark(*(row["after"] for row in rows[:20]))
    out, manifest = make(rows)
    assert manifest["notes"]["rows of a public benchmark, all of them in test"] == 20
    assert {row["after"] for row in rows[:20]} <= {row["reference_text"] for row in rows_of(out, "test")}
    out, manifest = make(rows, benchmark_rows="drop")
    assert manifest["left_out"]["sentences of a benchmark"] == 20
    left = {row["reference_text"] for part in ("train", "valid", "test") for row in rows_of(out, part)}
    assert not left & {row["after"] for row in rows[:20]}
    with pytest.raises(CorpusError, match="20 rows are sentences of FLORES-200"):
        make(rows, benchmark_rows="refuse")


def test_a_file_that_is_mostly_a_benchmark_is_refused(make, benchmark):
    rows = pairs(30)
    benchmark(*(row["after"] for row in rows[:20]))
    with pytest.raises(CorpusError, match="20 of 30 texts are of FLORES-200"):
        make(rows)


def test_a_file_is_known_by_its_digest_whatever_its_name(make, tmp_path, monkeypatch):
    source = write_rows(tmp_path / "rows.jsonl", pairs(5))
    monkeypatch.setitem(eval_only.FILES, digest.sha256_file(source), "a benchmark")
    with pytest.raises(CorpusError, match="is a benchmark, a public benchmark"):
        make(pairs(5))


# splits


def test_ties_do_not_depend_on_the_order():
    draw = random.Random(2)
    edges = [
        (draw.randrange(1 << 64), f"audio-{draw.randrange(30)}" if draw.random() < 0.8 else None) for _ in range(80)
    ]
    edges += [(edge[0], f"audio-{draw.randrange(30)}") for edge in edges[:20]]

    def components(order):
        ties = LinkedRows()
        nodes = {edge: ties.add(*edge) for edge in order}
        return {edge: ties.mark(node) for edge, node in nodes.items()}

    assert components(edges) == components(draw.sample(edges, len(edges)))
    # the same by brute force: spread the smallest mark until nothing changes
    marks = {edge: edge[0] for edge in edges}
    for _ in range(len(edges)):
        for one in edges:
            for other in edges:
                if one[0] == other[0] or (one[1] and one[1] == other[1]):
                    marks[one] = marks[other] = min(marks[one], marks[other])
    assert components(edges) == marks


def test_shares_that_leave_nothing_to_train_on():
    with pytest.raises(UsageError, match="leave no training rows"):
        part_of_mark(1, "salt", 0.5, 0.5)


@pytest.mark.slow
@needs_shared_data
@pytest.mark.parametrize("name", ["nqo_human_edits_v1_to_v4", "bam_asr_hyp_ref_nemo_log"])
def test_real_rows_make_a_corpus(tmp_path, name):
    source = shutil.copy(SHARED_DATA / "rows" / f"{name}.jsonl", tmp_path)
    manifest = build_agp_nko_correction_chatml(BuildSettings(inputs=[str(source)], out=str(tmp_path / "corpus")))
    real = sum(part["origin"].get("real", 0) for part in manifest["parts"].values())
    assert real + sum(manifest["left_out"].values()) == manifest["sources"][0]["rows"]
    assert manifest["channel"]["classes"]


def test_a_table_with_other_names_is_built_as_the_rows_that_it_holds(tmp_path):
    made = [(f"ߓߊ {n}", f"ߓߊ߬ {n}") for n in range(40)]
    table, lines = tmp_path / "rows.csv", tmp_path / "rows.jsonl"
    table.write_text("".join(["heard,said\n", *(f"{heard},{said}\n" for heard, said in made)]), encoding="utf-8")
    lines.write_text("".join(json.dumps({"hyp": heard, "ref": said}) + "\n" for heard, said in made), encoding="utf-8")
    built = []
    for path, fields in ((table, "hyp=heard,ref=said"), (lines, None)):
        settings = BuildSettings(inputs=[str(path)], out=str(tmp_path / path.suffix[1:]), fields=fields)
        manifest = build_agp_nko_correction_chatml(settings)
        built.append({part: totals["rows"] for part, totals in manifest["parts"].items()})
        assert manifest["sources"][0]["form"] == ("hyp + ref (CSV)" if fields else "hyp + ref")
    assert built[0] == built[1]


def _build_with_split(folder, split, name_part):
    made = [{"hyp": f"ߓߊ {n}", "ref": f"ߓߊ߬ {n % 50}", "split": name_part(n % 50)} for n in range(100)]
    source = write_rows(folder / "rows.jsonl", made)
    settings = BuildSettings(inputs=[str(source)], out=str(folder / "out"), split=split, near_duplicates="keep")
    manifest = build_agp_nko_correction_chatml(settings)
    return made, manifest, {row.reference for row in read_rows(folder / "out" / "test.jsonl").rows}


def test_rows_that_name_their_part_are_in_it(tmp_path):
    made, manifest, references = _build_with_split(tmp_path, "own", lambda n: ("train", "test", "dev")[n % 3])
    assert references == {row["ref"] for row in made if row["split"] == "test"}
    assert manifest["notes"]["rows in the part that their 'split' names (34 train, 32 valid, 34 test)"] == 100


def test_a_reference_of_two_parts_is_held_out_whole(tmp_path):
    made = [{"hyp": f"ߓߊ {n}", "ref": f"ߓߊ߬ {n % 20}", "split": "test" if n in (3, 4) else "train"} for n in range(60)]
    settings = BuildSettings(
        inputs=[str(write_rows(tmp_path / "rows.jsonl", made))], out=str(tmp_path / "out"), near_duplicates="keep"
    )
    manifest = build_agp_nko_correction_chatml(settings)
    assert manifest["parts"]["test"]["rows"] == 6 and manifest["parts"]["train"]["origin"]["real"] == 54


@pytest.mark.parametrize(("split", "named"), [("by-reference", ("train", "test")), ("own", ("test", "test"))])
def test_rows_are_divided_by_hash_where_it_is_asked_for_or_all_name_one_part(tmp_path, split, named):
    made, manifest, references = _build_with_split(tmp_path, split, lambda n: named[n % 2])
    plain = tmp_path / "plain"
    plain.mkdir()
    assert references == _build_with_split(plain, "own", lambda n: None)[2]
    assert any(note.endswith("divided anew") and times == 100 for note, times in manifest["notes"].items())
