"""Pages name only commands, flags and files that exist, and every one of these has its entry in the reference."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import documents
import pytest
from documents import GENERATED, REFERENCE, wrong_links, wrong_statements
from test_architecture import FLOORS

import thunder
from thunder.config import REPOSITORY

PAGES = documents.pages()


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_page_names_what_exists(path):
    name = path.relative_to(REPOSITORY).as_posix()
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".yaml":
        text = "\n".join(line[line.index("#") :] for line in text.splitlines() if "#" in line)
    assert wrong_statements(text, name) == []
    assert wrong_links(path) == []


def test_generated_pages_are_those_of_the_code():
    assert documents.generator().stale() == [], "run ./launch.sh docs, and commit the pages"


def test_every_option_has_its_entry():
    assert documents.options_without_entry(page("cli.md"), page("settings.md")) == []


def test_every_exit_code_has_its_entry():
    assert documents.codes_without_entry(page("exit-codes.md")) == []


def test_every_file_and_variable_has_its_entry():
    assert documents.files_without_entry(page("files.md")) == []


def test_every_rule_of_the_gate_has_its_entry():
    from thunder.bridge.gate import invariants

    text = page("gate-rules.md")
    assert [rule for rule in (*invariants.TEXT_RULES, *invariants.CHANGE_RULES) if f"`{rule}`" not in text] == []


def test_every_field_and_status_of_the_service_has_its_entry():
    from thunder.bridge.bridge_settings import ServeSettings
    from thunder.bridge.service import openapi
    from thunder.bridge.service.http_app import BridgeService

    described = json.loads(BridgeService(ServeSettings(), None, None, None)._document)
    text = page("http.md")
    fields = {name for one in described["components"]["schemas"].values() for name in one["properties"]}
    assert [field for field in sorted(fields) if f"`{field}`" not in text and f'"{field}"' not in text] == []
    assert [status for status in openapi.ERROR_STATUSES if f"\n| {status} |" not in text] == []
    assert [path for path in described["paths"] if f" {path}`" not in text] == []


def test_every_public_name_has_its_entry():
    text = page("python-api.md")
    assert [name for name in thunder.__all__ if name != "__version__" and f"\n::: thunder.{name}\n" not in text] == []


def test_contributing_lists_the_rooms_floor_by_floor():
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    floors = next(part for part in text.split("\n\n") if part.startswith("`cli` > "))
    listed = [set(re.findall(r"`(\w+)`", floor)) for floor in floors.split(">")]
    assert listed == [floor for floor in FLOORS if floor != {"__main__"}]
    files = {path.stem for path in (REPOSITORY / "thunder").glob("*.py")} - {"config"}
    rooms = set().union(*listed) - files
    assert [room for room in sorted(rooms) if f"\n| `{room}` |" not in text] == []


def test_the_readme_is_short_and_says_the_status_early():
    lines = (REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 80
    assert any("not yet run on Apple silicon" in line for line in lines[:15])


MESSAGES = (
    "has no carrier", "is on no interface there", "packets to", "link down: ", "ms there and back", "slow: ",
    "not measured: ", "which differs from the key in", "accepts none of your keys", "no answer within",
    "it accepts the connection but sends no banner", "cannot be started", "in which a rank stands still",
    "the display never sleeps", "on battery", "answers ping, but Python there may not reach it",
    "this cluster cannot be used:", "expected an IPv4 address such as 10.0.0.1", "which backend jaccl needs",
    "RDMA over Thunderbolt needs", "is left over from an earlier run", "the faster waits for the slower",
    "no such folder", "the base model", "cannot be listened on at", "it gave no answer",
    "the run cannot be started:", "ended before it was ready: ",
)  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_that_the_guide_to_two_macs_quotes_is_one_of_the_code(message):
    guide = (REPOSITORY / "docs" / "tutorials" / "two-macs.md").read_text(encoding="utf-8")
    assert message in " ".join(guide.split())
    sources = (path.read_text(encoding="utf-8") for path in (REPOSITORY / "thunder").rglob("*.py"))
    joined = (re.sub(r'"\n\s*f?"', "", source) for source in sources)  # texts over several lines
    assert any(message in source for source in joined), "change the guide with the message"


@pytest.mark.parametrize("text, fault", [
    ("Use `thunder train --no-such-flag 3`.", "has no flag --no-such-flag"),
    ("```\n./launch.sh --iters 5 \\\n    --no-such-flag\n```", "has no flag --no-such-flag"),
    ("```\nTHUNDER_RUNS=/tmp ./launch.sh resume --lora-rank 8\n```", "thunder resume has no flag --lora-rank"),
    ("Set --no-such-flag to 3.", "no command has the flag --no-such-flag"),
    ("Run `thunder polish runs/latest`.", "there is no command thunder polish"),
    ("Run `thunder corpus polish x`.", "there is no command thunder corpus polish"),
    ("Run `ssh Mac4 'cd x && ./launch.sh polish'`.", "there is no command thunder polish"),
    ("Run `./launch.sh docs --open`.", "no flag --open"),
    ("See thunder/no_such_module.py.", "thunder/no_such_module.py does not exist"),
    ("See `tests/fixtures/{smoke,absent}.jsonl`.", "tests/fixtures/{smoke,absent}.jsonl does not exist"),
    ("```\npython benchmarks/gate.py rows.jsonl --no-such-flag\n```", "benchmarks/gate.py has no flag --no-such-flag"),
])  # fmt: skip
def test_a_page_that_names_what_does_not_exist_is_found(text, fault):
    assert any(fault in found for found in wrong_statements(text)), wrong_statements(text)


def test_an_old_name_of_an_option_is_found():
    old = {flag for _, hidden in documents.commands().values() for flag in hidden} - documents.known_flags()
    for flag in sorted(old):
        assert wrong_statements(f"Give `{flag}`.") == [f"no command has the flag {flag}"]


@pytest.mark.parametrize("text", [
    "`thunder train --lora-rank 8 -c my.yaml` and `./launch.sh test -k gate --maxfail 1`",
    "`thunder_status --cluster desk --smoke`, `thunder gpu launch FILE --only RUN --yes`",
    "```\nssh Mac4 'cd thunder-train && git pull && ./launch.sh setup'\niperf3 -s --bind 10.0.5.2\n```",
    "`configs/gate/*.yaml` and `tests/fixtures/{smoke,synthetic,real}.jsonl`",
    "`.venv/bin/python -m mlx_lm generate --adapter-path runs/latest/adapters --temp 0`",
])  # fmt: skip
def test_a_page_that_is_right_has_no_fault(text):
    assert wrong_statements(text) == []


def test_a_reference_that_lacks_an_entry_is_found():
    commands, settings = page("cli.md"), page("settings.md")
    without = "".join(line for line in settings.splitlines(True) if not line.startswith("| `--lora-rank`"))
    assert any("thunder train: --lora-rank" in found for found in documents.options_without_entry(commands, without))
    without = re.sub(r"^\| `--allow` .*\n", "", commands, flags=re.MULTILINE)
    assert documents.options_without_entry(without, settings) == ["thunder drift: --allow has no entry"]
    without = commands.replace("## `thunder drift`", "## `thunder draft`")
    assert documents.options_without_entry(without, settings) == ["thunder drift has no section in cli.md"]
    without = page("exit-codes.md").replace("\n| 7 |", "\n| 77 |")
    assert documents.codes_without_entry(without) == ["exit code 7 has no entry"]
    without = page("files.md").replace("evidence.json", "x").replace("THUNDER_STATE", "x").replace("`rdma`", "x")
    found = set(documents.files_without_entry(without)) - set(documents.files_without_entry(page("files.md")))
    assert sorted(found) == ["THUNDER_STATE has no entry", "`rdma` has no entry", "evidence.json has no entry"]


def test_a_changed_option_makes_a_page_stale(monkeypatch):
    generator = documents.generator()
    monkeypatch.setitem(generator.CODES, 0, "Another meaning.")
    assert generator.stale() == ["exit-codes.md"]


def test_a_link_that_leads_nowhere_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "REPOSITORY", tmp_path)
    (tmp_path / "a.md").write_text("[b](b.md) and [c](c.md#part), [web](https://example.org)", encoding="utf-8")
    (tmp_path / "c.md").write_text("", encoding="utf-8")
    assert wrong_links(tmp_path / "a.md") == ["a.md: b.md does not exist"]


def test_generated_pages_say_how_they_are_made():
    for name in GENERATED:
        assert "Generated by scripts/build_reference_docs.py" in page(name)


@pytest.mark.slow
def test_the_site_is_built_without_network_and_without_warnings(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environ = {"PATH": "/usr/bin:/bin", "NO_MKDOCS_2_WARNING": "1", "HTTPS_PROXY": "http://127.0.0.1:9"}
    built = subprocess.run(command, cwd=REPOSITORY, env=environ, capture_output=True, text=True, timeout=110)
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    for html in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|link|img)[^>]*(?:src|href)=\"(https?://[^\"]*)", html.read_text(encoding="utf-8")
        )
        assert loaded == [], html
