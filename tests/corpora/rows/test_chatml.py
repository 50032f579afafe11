"""Chat messages of correction rows: the prompt holds the known metadata before the text."""

from thunder.corpora.rows.chatml import chatml_messages, chatml_prompt
from thunder.text.chat import correction_messages


def test_a_row_of_which_only_the_text_is_known_gets_the_short_prompt():
    row = {"asr_text": "ߓߊ", "reference_text": "ߓߊ߬", "partition": "unknown", "trajectory_scalars": {}}
    assert chatml_messages(row) == correction_messages("ߓߊ", "ߓߊ߬")


def test_what_is_known_of_a_row_stands_before_its_text():
    row = {"asr_text": "ߓߊ", "reference_text": "ߓߊ߬", "partition": "boundary", "sigils": ["ߛ", "ߜ"]}
    row["trajectory_scalars"] = {"novelty": 0.25, "commitment": 1}
    assert chatml_prompt(row) == (
        "Partition: boundary\nSigils: ߛ ߜ\nTrajectory: commitment 1, novelty 0.25\n"
        f"{correction_messages('ߓߊ', '')[0]['content']}"
    )
    assert chatml_messages(row)[0]["content"] == chatml_prompt(row)
