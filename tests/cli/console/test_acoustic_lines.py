"""Lines of acoustic runs: what a plan names, and the result of a test."""

from __future__ import annotations

from thunder.cli.console.acoustic_lines import format_test, plan_rows

FACTS = {
    "recipe": {"kind": "logmel", "subsample": 2, "how": "mean"}, "width": 80, "mode": "trajectory+ttt",
    "train_rows": 12, "valid_rows": 6, "test_rows": 7, "split": ["by speaker"],
    "speakers_in_several_parts": [f"s{number}" for number in range(10)],
    "left_out": {"without a text": {"rows": 2, "ids": ["u1", "u2"]}, "too short": {"rows": 0, "ids": []}},
    "test_rows_without_room": {"rows": 1, "ids": ["u9"]},
}  # fmt: skip
SETTINGS = {"head": "small", "script": "latin"}


def test_a_plan_names_features_head_rows_and_what_is_left_out():
    assert plan_rows(FACTS, SETTINGS) == [
        ("features", "logmel, width 80, subsampled by 2 (mean)"),
        ("head", "small, mode trajectory+ttt, latin labels"),
        ("rows", "12 train, 6 valid, 7 test"),
        ("split", "by speaker"),
        ("split", "speakers in several parts, as you named them: s0, s1, s2, s3, s4, s5, s6, s7"),
        ("left out", "2 utterances without a text: u1, u2"),
        ("test", "1 utterances have more labels than frames: u9 ..."),
    ]


def test_the_result_of_a_test_is_one_line():
    result = {"rows": 4, "cer": 0.25, "wer": 0.5, "exact": 1, "empty": 2}
    assert format_test(result) == "test CER 0.2500, WER 0.5000 on 4 utterances; 1 exact, 2 empty"
    moved = format_test(result | {"ttt": {"drift_mean": 0.01234}})
    assert moved == "test CER 0.2500, WER 0.5000 on 4 utterances; 1 exact, 2 empty; fast weights moved by 0.0123"
    assert format_test({"rows": 0}) == "no utterance to test"
