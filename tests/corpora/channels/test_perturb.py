import random
from collections import Counter
from dataclasses import replace

import pytest
from conftest import make_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.corpora.channels.error_channel import SEEN_OFTEN, ErrorChannel, channel_from_json, learn_error_channel
from thunder.corpora.channels.hand_written import hand_written_channel
from thunder.corpora.channels.perturb import Perturber, corrupt_text, corrupt_texts, perturbation_source
from thunder.errors import UsageError
from thunder.text.distance import ErrorCount, count_errors, edit_distance
from thunder.text.normalize import normalize_text

TEXTS = [normalize_text(row["messages"][1]["content"]) for row in make_rows(600, seed=3, longest=12)]


def planted() -> ErrorChannel:
    """Errors that an alignment cannot take for others: each at its own code point, at a known rate."""
    return ErrorChannel(
        name="planted",
        provenance={},
        changes={
            "\u07eb": {"\u07eb": 800, "": 200},
            "\u07ec": {"\u07ec": 900, "\u07eb": 100},
            "\u07df": {"\u07df": 850, "\u07e0": 150},
            " ": {" ": 900, "": 100},
        },
        insertions={"": {"": 1000}, "\u07d3": {"": 950, "\u07d2": 50}},
        runs={"mark": {"1": 1}, "space": {"1": 1}},
        loops={},
        gaps=1000,
    )


def rate(channel: ErrorChannel, context: str, heard: str) -> float:
    row = channel.changes[context]
    return row.get(heard, 0) / sum(row.values())


def rate_of_insertion(channel: ErrorChannel, context: str, inserted: str) -> float:
    row = channel.insertions[context]
    return row.get(inserted, 0) / sum(row.values())


def micro_cer(damaged: list[str], texts: list[str]) -> float:
    return sum((count_errors(*pair) for pair in zip(damaged, texts, strict=True)), ErrorCount()).rate


@pytest.mark.expensive
@pytest.mark.parametrize(
    ("which", "target"),
    [("hand-written", 0.05), ("hand-written", 0.4), ("learned", 0.05), ("learned", 0.4), ("planted", 0.1)],
)
def test_a_set_of_texts_meets_its_target(which, target):
    channel = {"hand-written": hand_written_channel, "planted": planted, "learned": lambda: learned_again(0.3)}[which]()
    assert micro_cer(corrupt_texts(channel, TEXTS, 5, target), TEXTS) == pytest.approx(target, rel=0.1)


def learned_again(target: float) -> ErrorChannel:
    return learn_error_channel(zip(corrupt_texts(hand_written_channel(), TEXTS, 1, target), TEXTS, strict=True))


@pytest.mark.expensive
def test_a_channel_that_is_learned_from_its_own_texts_has_its_rates():
    texts = TEXTS * 10
    natural = sum(
        text.count("\u07eb") * 0.2
        + text.count("\u07ec") * 0.1
        + text.count("\u07df") * 0.15
        + text.count(" ") * 0.1
        + text.count("\u07d3") * 0.05
        for text in texts
    ) / sum(map(len, texts))
    # texts differ in how likely their code points make an error: the same rate for each would move the ratios
    flat = Perturber(planted(), natural)
    flat._scale = lambda *_: 1.0
    source = random.Random(2)
    again = learn_error_channel(((flat.corrupt(text, source), text) for text in texts), worst_cer=10)
    for context, heard in [("\u07eb", ""), ("\u07ec", "\u07eb"), ("\u07df", "\u07e0"), (" ", "")]:
        wanted, seen = rate(planted(), context, heard), sum(again.changes[context].values())
        deviation = (wanted * (1 - wanted) / seen) ** 0.5
        assert abs(rate(again, context, heard) - wanted) < 5 * deviation, (context, heard)
    assert rate_of_insertion(again, "\u07d3", "\u07d2") == pytest.approx(0.05, rel=0.2)
    assert again.provenance["cer"] == pytest.approx(natural, rel=0.05)


@pytest.mark.expensive
def test_with_a_target_the_errors_keep_their_proportions():
    again = learn_error_channel(zip(corrupt_texts(planted(), TEXTS * 4, 2, 0.05), TEXTS * 4, strict=True))
    ratio = rate(again, "\u07eb", "") / rate(again, "\u07ec", "\u07eb")
    assert 1.5 < ratio < 2.5


def test_an_error_that_depends_on_its_neighbors_is_made_there_only():
    # l after a nasal is heard as l where na woloso is right, and nowhere else
    pairs = [("ߓߊ߲ߟߊ ߓߊߟߊ", "ߓߊ߲ߠߊ ߓߊߟߊ"), ("ߓߊ߲ߟߊ ߓߊߠߊ", "ߓߊ߲ߠߊ ߓߊߠߊ")] * SEEN_OFTEN
    damaged = corrupt_texts(learn_error_channel(pairs), ["ߓߊ߲ߠߊ ߓߊߠߊ ߓߊߟߊ"] * 50, 1, 0.06)
    assert {text.split()[0] for text in damaged} == {"ߓߊ߲ߠߊ", "ߓߊ߲ߟߊ"}
    assert {text.split(maxsplit=1)[1] for text in damaged} == {"ߓߊߠߊ ߓߊߟߊ"}


def test_loops_are_made_as_they_were_counted():
    channel = replace(planted(), changes={"ߏ": {"ߏ": 1}}, insertions={"": {"": 1}}, loops={"2x3": 1}, gaps=20)
    damaged = {corrupt_text(channel, "ߓߊߟߏ", random.Random(seed), 0.5) for seed in range(60)}
    assert {"ߓߊߟߏߟߏߟߏߟߏ", "ߓߊߓߊߓߊߓߊߟߏ", "ߓߊߟߊߟߊߟߊߟߏ", "ߓߊߟߏ"} & damaged == {
        "ߓߊߟߏߟߏߟߏߟߏ",
        "ߓߊߓߊߓߊߓߊߟߏ",
        "ߓߊߟߊߟߊߟߊߟߏ",
        "ߓߊߟߏ",
    }


def test_rows_differ_in_severity_as_those_learned_from():
    channel = replace(hand_written_channel(), severities=(0.0, 2.0))
    damaged = corrupt_texts(channel, TEXTS, 1, 0.2)
    untouched = sum(text == wanted for text, wanted in zip(damaged, TEXTS, strict=True)) / len(TEXTS)
    assert 0.45 < untouched < 0.65


def test_severities_that_no_text_could_bear_are_cut_and_the_mean_is_kept():
    channel = replace(hand_written_channel(), severities=(0.0,) * 5 + (1.0,) * 10 + (2.0,) * 5)
    severities = Perturber(channel, 0.6)._severities
    assert max(severities) <= 0.9 / 0.6 + 1e-9
    assert sum(severities) / 20 == pytest.approx(1, abs=1e-4)
    assert severities[:5] == (0.0,) * 5


def test_a_seed_gives_the_same_texts_and_another_gives_others():
    first = corrupt_texts(hand_written_channel(), TEXTS[:50], 1, 0.2)
    assert first == corrupt_texts(hand_written_channel(), TEXTS[:50], 1, 0.2)
    assert first != corrupt_texts(hand_written_channel(), TEXTS[:50], 2, 0.2)


def test_a_channel_from_its_file_damages_alike():
    channel = learned_again(0.2)
    again = channel_from_json(channel.to_json(), "c.json")
    assert corrupt_texts(again, TEXTS[:50], 1, 0.2) == corrupt_texts(channel, TEXTS[:50], 1, 0.2)


@settings(max_examples=50)
@given(st.text(max_size=20), st.integers(0, 100))
def test_no_text_breaks_it(text, seed):
    damaged = corrupt_text(hand_written_channel(), text, random.Random(seed), 0.3)
    assert damaged == normalize_text(damaged).strip()


@pytest.mark.parametrize("target", [0.0, -0.1, 0.9, float("nan")])
def test_a_target_that_cannot_be_is_refused(target):
    with pytest.raises(UsageError, match="target"):
        Perturber(hand_written_channel(), target)


def test_a_channel_that_makes_no_error_is_refused():
    silent = replace(planted(), changes={"ߊ": {"ߊ": 3}}, insertions={"": {"": 3}})
    with pytest.raises(UsageError, match="no error"):
        Perturber(silent, 0.1)


def test_every_text_gets_errors_as_many_as_real_rows_with_errors_have():
    """Rows of 30 code points with 0 to 6 errors: made rows have the shares of the real ones that have an error."""
    draw = random.Random(4)
    real = Counter()
    pairs = []
    for _ in range(2000):
        reference = "".join(draw.choices("ߊߋߌߎߏߓߕߞ", k=30))
        heard, times = list(reference), draw.choices(range(7), (30, 30, 15, 10, 7, 5, 3))[0]
        for at in draw.sample(range(30), times):
            heard[at] = "ߟ"
        pairs.append(("".join(heard), reference))
        real[times] += 1
    channel = learn_error_channel(pairs)
    texts = ["".join(draw.choices("ߊߋߌߎߏߓߕߞ", k=30)) for _ in range(1000)]
    target = sum(times * rows for times, rows in real.items()) / (30 * (2000 - real[0]))
    perturber = Perturber(channel, target, every_text=True)
    perturber.calibrate(texts, 1)
    made = Counter(
        edit_distance(perturber.corrupt(text, perturbation_source(1, number)), text)
        for number, text in enumerate(texts)
    )
    assert not made[0]
    shares = {times: rows / (2000 - real[0]) for times, rows in real.items() if times}
    for times, share in shares.items():
        assert made[times] / 1000 == pytest.approx(share, abs=0.06), times
    # one row in twenty for each severity; left to chance, a third of the rows has no error
    by_chance = Perturber(channel, target)
    assert sum(by_chance.corrupt(text, perturbation_source(1, n)) == text for n, text in enumerate(texts)) > 300


def test_a_text_that_the_channel_has_no_error_for_stays():
    assert Perturber(planted(), 0.1, every_text=True).corrupt("abc", random.Random(1)) == "abc"
