"""Files of gate rules: their identity, and every fault of a file at once."""

from __future__ import annotations

import pytest

from thunder.bridge.gate import gate_rules

BOOK = gate_rules.read_gate_rules()


# The file of rules.
def test_a_file_that_changes_while_it_is_read_has_no_id(tmp_path, monkeypatch):
    from thunder.errors import ConfigError

    path = tmp_path / "r.yaml"
    data = gate_rules.DEFAULT_RULES.read_bytes()
    path.write_bytes(data)
    real = gate_rules.load_yaml

    def meanwhile(where):
        values = real(where)
        path.write_bytes(data.replace(b"0.80", b"0.10"))
        return values

    monkeypatch.setattr(gate_rules, "load_yaml", meanwhile)
    with pytest.raises(ConfigError, match="changed while it was read"):
        gate_rules.read_gate_rules(path)


def test_the_id_is_the_name_and_the_digest_of_the_file(tmp_path):
    import hashlib

    data = gate_rules.DEFAULT_RULES.read_bytes()
    assert BOOK.id == f"agp_rules_v2@{hashlib.sha256(data).hexdigest()}"
    other = tmp_path / "r.yaml"
    other.write_bytes(data.replace(b"0.80", b"0.81"))
    assert (
        gate_rules.read_gate_rules(other).id != BOOK.id
        and gate_rules.read_gate_rules(other).rules.name == "agp_rules_v2"
    )


@pytest.mark.parametrize("said, fine", [("off", True), ("no-worse", True), ("yes", False), ("1", False)])
def test_a_file_may_ask_for_syllables(tmp_path, said, fine):
    from thunder.errors import ConfigError

    path = tmp_path / "r.yaml"
    path.write_text(f"{gate_rules.DEFAULT_RULES.read_text(encoding='utf-8')}syllables: {said}\n", encoding="utf-8")
    if fine:
        assert gate_rules.read_gate_rules(path).rules.syllables == said
    else:
        with pytest.raises(ConfigError, match="syllables"):
            gate_rules.read_gate_rules(path)


def test_faults_of_a_file_are_listed_together(tmp_path):
    from thunder.errors import ConfigError

    text = gate_rules.DEFAULT_RULES.read_text(encoding="utf-8")
    text = text.replace("span_slack: 1", "span_slak: 1").replace("  novelty:", "  novel:")
    text = text.replace("min_confidence: 0.80", "min_confidence: 1.80").replace("breaker_rows: 20", "breaker_rows: no")
    path = tmp_path / "r.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        gate_rules.read_gate_rules(path)
    said = str(caught.value)
    for each in ("'span_slak'", "span_slack", "breaker_rows", "partitions.boundary", "min_confidence", "'no'",
                 "partitions.novelty: expected", "partitions.novel: no such"):  # fmt: skip
        assert each in said
    assert str(path) in said


def test_rules_written_before_recovery_existed_are_read_without_it():
    v1 = gate_rules.read_gate_rules(gate_rules.DEFAULT_RULES.with_name("agp_rules_v1.yaml"))
    assert list(v1.budgets) == ["stable", "boundary", "uncertain", "novelty"]
    assert list(BOOK.budgets) == ["stable", "boundary", "uncertain", "recovery", "novelty"]
    shared = {name: BOOK.budgets[name] for name in v1.budgets}
    assert shared == dict(v1.budgets)
    differing = {name for name in type(v1.rules).model_fields if getattr(v1.rules, name) != getattr(BOOK.rules, name)}
    assert differing == {"name", "partitions"}
