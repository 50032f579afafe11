"""What the pages of the repository say about commands, flags and files, and what exists of it."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import re
import shlex
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

from thunder.cli import main as cli
from thunder.config import REPOSITORY

REFERENCE = REPOSITORY / "docs" / "reference"
GENERATED = ("cli.md", "settings.md", "exit-codes.md")
PROGRAMS = {
    "thunder": (),
    "./launch.sh": (),
    "thunder_status": ("status",),
    "eval_agp_nko_adapter": ("eval",),
}
OF_LAUNCH_SH = {"setup": (), "test": None, "docs": ("--serve",)}  # None: the rest goes to pytest
EVERYWHERE = {"--help", "--version"}
FOREIGN = {"--serve", "--quick", "--pdb"}  # flags of launch.sh and of pytest
PLACES = ".github|benchmarks|configs|data/(?:models|sample|eval_only)|docs|examples|scripts|tests|thunder"
PATH = re.compile(rf"(?<![\w/~.$-])((?:{PLACES})/[\w./{{}},*-]+)")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
FILE_NAME = re.compile(r"\.?[\w./-]*\.(?:json|jsonl|yaml|safetensors|log|html|npz|csv|svg|sqlite|lock|pt|txt|jinja)")
ALLOWED = {  # page -> names that it may use although they do not exist
    "configs/gate/agp_rules_v1.yaml": {"docs/bridge.md"},  # frozen: its SHA-256 is the id of the rules in every token
    "CHANGELOG.md": {"docs/modes.md", "--max-wraps", "--window", "--unsafe-shape", "--rules"},  # what was renamed
}


@cache
def generator() -> ModuleType:
    """scripts/build_reference_docs.py as a module."""
    spec = importlib.util.spec_from_file_location(
        "build_reference_docs", REPOSITORY / "scripts/build_reference_docs.py"
    )
    assert spec and spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def commands() -> dict[tuple[str, ...], tuple[frozenset[str], frozenset[str]]]:
    """Words of each command -> its flags that help lists, and those that it does not list."""
    found = {}
    for words, command in _walk((), None):
        options = [one for one in command.params if one.param_type_name == "option"]
        shown = {flag for one in options if not one.hidden for flag in (*one.opts, *one.secondary_opts)}
        hidden = {flag for one in options if one.hidden for flag in (*one.opts, *one.secondary_opts)}
        found[words] = (frozenset(shown), frozenset(hidden - shown))
    return found


def _walk(words: tuple[str, ...], command) -> Iterator[tuple]:
    if command is None:
        for name in cli.COMMANDS:
            yield from _walk((name,), generator().load_command(name))
        return
    yield words, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _walk((*words, name), inner)


@cache
def known_flags() -> frozenset[str]:
    """Every flag of any command that help lists, and those that all programs have."""
    return frozenset().union(*(shown for shown, _ in commands().values())) | EVERYWHERE | FOREIGN


def pages() -> list[Path]:
    """Every page of the repository, and every configuration file for its comments."""
    files = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("configs/**/*.yaml")]
    files += [*REPOSITORY.glob("data/**/*.md"), *REPOSITORY.glob("examples/**/*.md"), REPOSITORY / "runs" / "README.md"]
    return sorted(files)


def wrong_statements(text: str, name: str = "") -> list[str]:
    """What a page names that does not exist: commands, flags, paths in the repository, and pages that links lead to."""
    allowed = ALLOWED.get(name, set())
    foreign: set[str] = set()
    faults = []
    for line in command_lines(text):
        found, skipped = _judged(line)
        faults += found
        foreign |= skipped
    faults += [
        f"no command has the flag {flag}"
        for flag in sorted(set(FLAG.findall(text)) - known_flags() - foreign - allowed)
    ]
    named = {path.rstrip(".,") for path in PATH.findall(text)} - allowed
    faults += [f"{path} does not exist" for path in sorted(named) if not _exists(path)]
    return list(dict.fromkeys(faults))


def wrong_links(path: Path) -> list[str]:
    """Relative links of a page that lead nowhere."""
    links = re.findall(r"\]\(([^)\s#]+)[^)]*\)|(?:src|srcset)=\"([^\"#]+)\"", path.read_text(encoding="utf-8"))
    return [
        f"{path.relative_to(REPOSITORY)}: {link} does not exist"
        for link in map("".join, links)
        if "://" not in link and not (path.parent / link).exists()
    ]


def command_lines(text: str) -> Iterator[str]:
    """Each command line in code blocks and code spans, with continued lines joined and comments removed."""
    blocks = re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL)
    spans = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    lines = itertools.chain.from_iterable(re.sub(r"\\\n\s*", " ", block).splitlines() for block in blocks)
    for line in itertools.chain(lines, (" ".join(span.split()) for span in spans)):
        for part in re.split(r"&&|\|\s|;", re.sub(r"(?:^|\s)#.*", "", line)):
            yield part.strip(" '\"$")


def _judged(line: str) -> tuple[list[str], set[str]]:
    """Faults of a command line, and the flags that belong to another program."""
    words = _words(line)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    if words and words[0].endswith("bin/thunder"):
        words[0] = "thunder"
    if not words or words[0] not in PROGRAMS:
        return _script_faults(words), set(FLAG.findall(line)) if words and not words[0].startswith("-") else set()
    start = PROGRAMS[words[0]]
    rest = words[1:]
    if words[0] == "./launch.sh" and rest and rest[0] in OF_LAUNCH_SH:
        own = OF_LAUNCH_SH[rest[0]]
        faults = [] if own is None else [f"`{line}`: no flag {w}" for w in rest[1:] if w[:2] == "--" and w not in own]
        return faults, set(FLAG.findall(line)) if own is None else set()
    if words[0] == "./launch.sh" and (not rest or rest[0].startswith("-")):
        start = ("launch",)
    return _command_faults(line, start, rest), set()


def _command_faults(line: str, start: tuple[str, ...], rest: list[str]) -> list[str]:
    known, at = commands(), start
    for word in rest:
        if not re.fullmatch(r"[a-z][a-z-]*", word) or (at in known and not any(k[:-1] == at for k in known)):
            break
        if (*at, word) not in known:
            return [f"`{line}`: there is no command {' '.join(('thunder', *at, word))}"]
        at = (*at, word)
    shown = known[at][0] if at in known else frozenset()
    inner = frozenset().union(*(flags for words, (flags, _) in known.items() if words[: len(at)] == at))
    flags = [word.split("=")[0] for word in rest if word.startswith("--") and len(word) > 2]
    return [
        f"`{line}`: {' '.join(('thunder', *at))} has no flag {flag}"
        for flag in flags
        if FLAG.fullmatch(flag) and flag not in (shown or inner) | EVERYWHERE
    ]


def _script_faults(words: list[str]) -> list[str]:
    """Faults of a line that runs a script of the repository: it has to exist, and to know the flags."""
    for at, word in enumerate(words):
        path = REPOSITORY / (word.replace(".", "/") + ".py" if at and words[at - 1] == "-m" else word)
        if re.match(r"(?:benchmarks|scripts)[./]\w", word) and path.suffix == ".py" and path.is_file():
            source = path.read_text(encoding="utf-8")
            flags = [flag for flag in words[at + 1 :] if flag.startswith("--")]
            return [f"{word} has no flag {flag}" for flag in flags if f'"{flag.split("=")[0]}"' not in source]
    return []


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def _exists(path: str) -> bool:
    inner = re.search(r"\{([^}]*)\}", path)
    if inner:
        return all(_exists(path.replace(inner[0], one, 1)) for one in inner[1].split(","))
    return any(REPOSITORY.glob(path.rstrip("/"))) if "*" in path else (REPOSITORY / path).exists()


def options_without_entry(cli_page: str, settings_page: str) -> list[str]:
    """Commands and flags that help lists and the reference pages do not."""
    faults = []
    sections = _sections(cli_page)
    for command in generator().commands():
        section = sections.get(command.name)
        if section is None:
            faults.append(f"{command.name} has no section in cli.md")
            continue
        kind = command.settings
        shared = _sections(settings_page, kind.__name__.lower()) if kind else {}
        text = section + "".join(shared.values())
        shown, _ = commands()[command.words]
        negative = {flag for one in command.click.params for flag in one.secondary_opts}
        missing = [flag for flag in sorted(shown - negative - EVERYWHERE) if f"`{flag}`" not in text]
        faults += [f"{command.name}: {flag} has no entry" for flag in missing]
    return faults


def _sections(page: str, anchor: str = "") -> dict[str, str]:
    """Title -> text of each section of the second level; with an anchor, of the one that has it."""
    parts = re.split(r"^## (.*)$", page, flags=re.MULTILINE)
    titled = dict(zip(parts[1::2], parts[2::2], strict=True))
    return {title.strip("`"): text for title, text in titled.items() if not anchor or f"#{anchor} " in title}


def codes_without_entry(page: str) -> list[str]:
    """Exit codes that errors have and the page does not list."""
    codes = {0, *generator().exit_codes()}
    return [f"exit code {code} has no entry" for code in sorted(codes) if f"\n| {code} |" not in page]


def files_without_entry(page: str) -> list[str]:
    """Names of files that the code reads or writes, keys of cluster files and variables that the page does not list."""
    names, variables = set(), set()
    for path in REPOSITORY.glob("thunder/**/*.py"):
        source = path.read_text(encoding="utf-8")
        variables |= set(re.findall(r"\bTHUNDER_[A-Z_]+[A-Z]\b", source))
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and FILE_NAME.fullmatch(node.value):
                names.add(node.value.rsplit("/", 1)[-1])
    names = {name for name in names if not name.startswith(".tmp") and name not in OF_THE_REPOSITORY}
    from thunder.cluster.inventory.cluster_file import Cluster, Host

    keys = {f"`{key}`" for kind in (Cluster, Host) for key in kind.model_fields}
    return [f"{name} has no entry" for name in sorted(names | variables | keys) if name not in page]


OF_THE_REPOSITORY = {"requirements.lock", "page.html", "sample-repair.yaml"}
