"""Imports point down only; rooms on one floor do not know each other; outside packages have their rooms."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

FLOORS = [  # top to bottom
    {"__main__"},
    {"cli"},
    {"report"},
    {"bridge"},
    {"evaluation"},
    {"lora", "acoustic"},
    {"training"},
    {"corpora", "parallel", "kernels", "runs", "cluster"},
    {"text"},
    {"config"},
    {"digest", "tensor_digests"},
    {"errors", "units"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MAY_USE = {  # outside packages that only some rooms may use
    "mlx": {"parallel", "kernels", "training", "lora", "acoustic", "evaluation"},
    "numba": {"kernels"},
    "mlx_lm": {"lora", "evaluation"},
    "sentencepiece": {"lora"},
    "transformers": {"lora"},
    "tokenizers": {"lora"},
    "huggingface_hub": {"lora"},
    "paramiko": {"cluster"},
    # acoustic: espeak-ng, a program
    "subprocess": {"cluster", "runs", "acoustic"},
    "psutil": {"cluster"},
    "argparse": set(),
    "typer": {"cli"},
    "rich": {"cli"},
    "altair": {"report"},
    "vl_convert": {"report"},
    "jinja2": {"report"},
    "rapidfuzz": {"text"},
    "regex": {"text"},
    "yaml": {"config"},
    "pydantic": {"config", "lora", "acoustic", "training", "cluster", "bridge", "runs"},
    "soundfile": {"acoustic"},
    "soxr": {"acoustic"},
    "starlette": {"bridge"},
    "uvicorn": {"bridge"},
    "h11": {"bridge"},
}
PACKAGE = Path(__file__).parents[1] / "thunder"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported_names(source: str):
    """Yield the absolute dotted name of everything a source text imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; write it in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    room, source = room_of(path), path.read_text(encoding="utf-8")
    for name in imported_names(source):
        package, _, rest = name.partition(".")
        other = rest.split(".")[0]
        if package == "thunder" and other != room and other != "__version__":
            assert FLOOR[room] < FLOOR[other], f"{room} may not import {other} (see FLOORS)"
        assert room in MAY_USE.get(package, {room}), f"{room} may not use {package} (see MAY_USE)"
    if room != "parallel":
        assert "mx.distributed" not in source, "collectives live in thunder/parallel"


def test_every_room_has_a_floor():
    assert {room_of(path) for path in MODULES} <= FLOOR.keys()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_says_in_one_sentence_what_it_is(path):
    source = path.read_text(encoding="utf-8")
    assert not source or ast.get_docstring(ast.parse(source)), f"{path} has no docstring"


def test_no_room_for_leftovers():
    assert not [path for path in MODULES if path.stem in {"utils", "common", "helpers", "misc"}]
