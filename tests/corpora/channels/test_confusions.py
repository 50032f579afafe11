"""Confusions: the table holds the counts of the channel, and the picture shows them."""

import shutil
import subprocess

import pytest

from thunder.corpora.channels import confusions
from thunder.corpora.channels.error_channel import learn_error_channel
from thunder.corpora.channels.hand_written import hand_written_channel


def test_the_table_holds_what_was_counted():
    table = confusions.confusion_table(
        learn_error_channel([("ߓߋ ߓߋ", "ߓߊ ߓߊ"), ("ߓߊ", "ߓߊ߬"), ("ߓߊߓߊ", "ߓߊ ߓߊ"), ("ߓ ߊ", "ߓߊ")])
    )
    assert [(one.wanted, one.heard, one.times, one.kind) for one in table] == [
        ("ߊ", "ߋ", 2, "letter swapped"),
        ("", " ", 1, "word split"),
        (" ", "", 1, "words merged"),
        ("\u07ec", "", 1, "tone mark lost"),
    ]
    assert confusions.confusions_by_class(table)["letter swapped"] == 2


@pytest.mark.parametrize(
    ("wanted", "heard", "kind"),
    [
        ("\u07eb", "\u07ec", "tone mark swapped"), ("", "\u07ec", "tone mark added"), ("ߊ", "", "letter lost"),
        ("", "ߊߓ", "letter added"), ("\u07f2", "", "nasal dot lost or added"), (",", "", "other"),
    ],
)  # fmt: skip
def test_classes(wanted, heard, kind):
    assert confusions._class(wanted, heard) == kind


def test_marks_stand_on_a_dotted_circle_each_in_its_own_text(tmp_path):
    import xml.etree.ElementTree as tree

    root = tree.fromstring(confusions.confusion_picture(hand_written_channel()))
    signs = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text") if text.get("direction") == "rtl"]
    assert "\u25cc\u07eb" in signs and "\u2423" in signs and "\u2205" in signs
    assert not any(sign[0] in "\u07eb\u07ec\u07f2" for sign in signs)
    heights = [float(bar.get("y")) for bar in root.iter("{http://www.w3.org/2000/svg}rect") if bar.get("rx")]
    assert max(heights) < float(root.get("height"))


@pytest.mark.skipif(not shutil.which("rsvg-convert"), reason="needs rsvg-convert")
def test_the_picture_can_be_drawn(tmp_path):
    (tmp_path / "a.svg").write_text(confusions.confusion_picture(hand_written_channel()), encoding="utf-8")
    subprocess.run(["rsvg-convert", "a.svg", "-o", "a.png"], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "a.png").stat().st_size > 10_000
