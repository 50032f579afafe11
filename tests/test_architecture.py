"""Imports point down only, between rooms and inside them; there is no circle; outside packages have their rooms."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "thunder"

FLOORS = [  # top to bottom; rooms on one floor do not import each other
    {"__main__"},
    {"cli"},
    {"api"},
    {"report"},
    {"bridge", "launcher"},
    {"evaluation"},
    {"lora", "acoustic"},
    {"training"},
    {"corpora", "parallel", "kernels", "runs", "cluster", "rental"},
    {"text"},
    {"config"},
    {"digest", "tensor_digests", "statistics"},
    {"errors", "option_hints", "units", "version"},
]
SUB_ROOM_FLOORS = {  # the same inside each room: its folders and its own files, top to bottom
    "cli": [{"main"}, {"commands"}, {"console", "parsing"}],
    "api": [
        {"transcription"},
        {"bridge_session", "corpus_build", "generation", "recognition", "run_evaluation", "run_training"},
        {"python_options", "results"},
    ],
    "launcher": [
        {"job_kinds", "in_process"},
        {"job_runner", "remote_checks"},
        {"attempts", "shape_check"},
        {"run_follower", "job_settings", "plan_facts", "recognizer_facts"},
        {"job_console", "job"},
        {"plan", "rank_jobs", "runs_folder"},
        {"options"},
    ],
    "report": [
        {"pages"},
        {"sections"},
        {"charts"},
        {"html_writer", "loss_curve", "text_diff"},
        {"number_format", "page_model", "report_settings", "run_files"},
    ],
    "bridge": [
        {"service"},
        {"proposers"},
        {"http_proposer"},
        {"gate_score", "schemas"},
        {"decisions"},
        {"gate", "proof", "bridge_settings"},
    ],
    "evaluation": [
        {"sample_answers", "fusion"},
        {"adapter_comparison", "engine_setup", "evaluate", "claims"},
        {"decoding", "metrics", "proposal_ledger"},
        {"engines"},
        {"cases", "evaluation_settings", "generation_settings", "fusion_settings"},
    ],
    "lora": [
        {"cache_warmup"},
        {"lora_task"},
        {"adapters"},
        {"weights_survey", "engine", "fused_model"},
        {"adapter_check", "pretraining"},
        {"datasets"},
        {"tokenized_rows"},
        {"prompts"},
        {"adapter_files", "base_model", "open_text"},
        {"lora_settings", "prefix_cache", "tokenizer"},
    ],
    "acoustic": [
        {"audit"},
        {"training"},
        {"inference"},
        {"batches"},
        {"head"},
        {"trajectory"},
        {"dataset"},
        {"acoustic_settings"},
        {"features", "decoding", "labels", "synthesis"},
        {"sound_files", "manifests"},
    ],
    "training": [
        {"loop"},
        {"step"},
        {"balance", "callbacks"},
        {"checkpoints", "schedule", "train_context", "validation", "faults"},
        {"state", "loop_settings", "shapes", "task", "training_events"},
    ],
    "corpora": [{"builders"}, {"splits"}, {"channels", "rows", "corpus_settings"}],
    "parallel": [{"consistency", "gathered_work"}, {"collectives"}, {"row_order", "world"}],
    "kernels": [{"selfcheck"}, {"ctc", "ttt_chunk"}, {"dispatch", "gpu_launch"}],
    "runs": [{"hypotheses", "matrix", "tables"}, {"compare", "listing"}, {"bundles"}, {"records"}],
    "cluster": [{"ranks"}, {"health"}, {"inventory", "ssh"}],
    "rental": [{"rental_lane"}, {"rental_offers"}, {"checkout", "rental_ledger", "vastai"}],
    "statistics": [{"bootstrap", "clopper_pearson", "welch"}],
    "text": [
        {"transliterate"},
        {"bambara", "distance", "spelling"},
        {"chat", "comparable", "syllables"},
        {"normalize"},
        {"alphabet", "row_fields"},
    ],
}
MAY_USE = {  # outside packages that only some rooms may use
    "mlx": {"parallel", "kernels", "training", "lora", "acoustic", "evaluation"},
    "numba": {"kernels"},
    "mlx_lm": {"lora", "evaluation"},
    "sentencepiece": {"lora"},
    "transformers": {"lora"},
    "tokenizers": {"lora"},
    "huggingface_hub": {"lora"},
    "paramiko": {"cluster"},
    # acoustic: espeak-ng, a program; rental: vastai and git
    "subprocess": {"cluster", "runs", "acoustic", "rental"},
    "psutil": {"cluster"},
    "argparse": set(),
    "typer": {"cli"},
    "rich": {"cli"},
    "altair": {"report"},
    "vl_convert": {"report"},
    "jinja2": {"report", "lora"},
    "rapidfuzz": {"text"},
    "regex": {"text"},
    "scipy": {"statistics"},
    "yaml": {"config"},
    "pydantic": {
        "launcher",
        "config",
        "lora",
        "acoustic",
        "training",
        "cluster",
        "rental",
        "bridge",
        "runs",
        "evaluation",
    },
    "soundfile": {"acoustic"},
    "soxr": {"acoustic"},
    "starlette": {"bridge"},
    "uvicorn": {"bridge"},
    "h11": {"bridge"},
    "httpx": {"bridge"},
}
MOST_MODULES = 15  # in one folder, without its __init__.py
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def module_name(path: Path, package: Path = PACKAGE) -> str:
    """`thunder.lora.adapters` for the file of that module, `thunder.lora` for that folder's __init__.py."""
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(source: str):
    """Yield the absolute dotted name of everything a source text imports, under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; write it in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def import_graph(package: Path = PACKAGE) -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports."""
    files = {module_name(path, package): path for path in package.rglob("*.py")}
    graph: dict[str, set[str]] = {}
    for name, path in files.items():
        imported = set(imported_names(path.read_text(encoding="utf-8")))
        # `from package.room import module` names a module, `from package.room.module import Name` a name in one
        targets = {each if each in files else each.rpartition(".")[0] for each in imported}
        graph[name] = (targets & files.keys()) - {name}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import each other, by removing whatever no circle can go through."""
    left = {name: set(targets) for name, targets in graph.items()}
    while True:
        imported = set().union(*left.values()) if left else set()
        loose = {name for name, targets in left.items() if not targets & left.keys() or name not in imported}
        if not loose:
            break
        left = {name: targets - loose for name, targets in left.items() if name not in loose}
    groups = []
    while left:
        group, waiting = set(), [next(iter(left))]
        while waiting:
            name = waiting.pop()
            if name not in group:
                group.add(name)
                waiting += left[name] & left.keys()
        groups.append(sorted(group))
        left = {name: targets for name, targets in left.items() if name not in group}
    return groups


def floor_of(floors: list[set[str]]) -> dict[str, int]:
    return {name: number for number, names in enumerate(floors) for name in names}


def upward_imports(graph: dict[str, set[str]], sub_rooms: dict[str, list[set[str]]]) -> list[str]:
    """Imports that do not point down: between rooms by FLOORS, inside a room by its own table."""
    floors, faults = floor_of(FLOORS), []
    for module, targets in graph.items():
        parts = module.split(".")[1:]
        for target in targets:
            others = target.split(".")[1:]
            if not parts or not others:
                continue
            if parts[0] != others[0]:
                if floors[parts[0]] >= floors[others[0]]:
                    faults.append(f"{module} may not import {target}: see FLOORS")
            elif len(parts) > 1 and len(others) > 1 and parts[1] != others[1]:
                inside = floor_of(sub_rooms[parts[0]])
                if inside[parts[1]] >= inside[others[1]]:
                    faults.append(f"{module} may not import {target}: see SUB_ROOM_FLOORS[{parts[0]!r}]")
    return faults


def test_imports_point_downwards():
    assert not upward_imports(import_graph(), SUB_ROOM_FLOORS)


PUBLIC = ("thunder.api.", "thunder.errors", "thunder.training.training_events", "thunder.version")


def test_the_package_itself_exports_the_python_api_only():
    assert {target for target in import_graph()["thunder"] if not target.startswith(PUBLIC)} == set()


def test_no_modules_import_each_other():
    assert not circles(import_graph())


PLANTED = {
    "typed": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from thunder.runs.records.late import Late\n",
    "inside a function": "def work():\n    from thunder.runs.records import late\n    return late\n",
    "plain": "import thunder.runs.records.late\n",
}


@pytest.mark.parametrize("early", PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_circle_is_found(tmp_path, early):
    folder = tmp_path / "thunder" / "runs" / "records"
    folder.mkdir(parents=True)
    for place in (folder, folder.parent, folder.parents[1]):
        (place / "__init__.py").write_text("")
    (folder / "early.py").write_text(early)
    (folder / "late.py").write_text("from thunder.runs.records import early, other\nclass Late: ...\n")
    (folder / "other.py").write_text("")
    found = circles(import_graph(tmp_path / "thunder"))
    assert found == [["thunder.runs.records.early", "thunder.runs.records.late"]]


def test_a_planted_import_upwards_is_found():
    graph = {"thunder.runs.records.registry": {"thunder.runs.bundles.bundle"}, "thunder.runs.bundles.bundle": set()}
    assert len(upward_imports(graph, SUB_ROOM_FLOORS)) == 1
    assert len(upward_imports({"thunder.text.chat": {"thunder.runs.records.registry"}}, SUB_ROOM_FLOORS)) == 1
    assert len(upward_imports({"thunder.cluster.ssh.client": {"thunder.runs.records.registry"}}, SUB_ROOM_FLOORS)) == 1
    assert upward_imports({"thunder.cli.main": {"thunder.runs.records.registry"}}, SUB_ROOM_FLOORS) == []


def test_every_room_has_a_floor():
    rooms: dict[str, set[str]] = defaultdict(set)
    for path in MODULES:
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[1:] != ("__init__",):
            rooms[parts[0]].update(parts[1:2])
    assert rooms.keys() == floor_of(FLOORS).keys()
    for room, entries in rooms.items():
        assert entries == floor_of(SUB_ROOM_FLOORS.get(room, [])).keys(), f"SUB_ROOM_FLOORS[{room!r}]"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_outside_packages_have_their_rooms(path):
    room, source = path.relative_to(PACKAGE).parts[0].removesuffix(".py"), path.read_text(encoding="utf-8")
    for name in imported_names(source):
        package = name.partition(".")[0]
        assert room in MAY_USE.get(package, {room}), f"{room} may not use {package} (see MAY_USE)"
    if room != "parallel":
        assert "mx.distributed" not in source, "collectives live in thunder/parallel"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_says_in_one_sentence_what_it_is(path):
    source = path.read_text(encoding="utf-8")
    assert not source or ast.get_docstring(ast.parse(source)), f"{path} has no docstring"


def test_no_room_for_leftovers():
    assert not [path for path in MODULES if path.stem in {"utils", "common", "helpers", "misc"}]


def test_no_folder_holds_too_many_modules():
    count = Counter(path.parent for path in MODULES if path.name != "__init__.py")
    assert {str(folder): number for folder, number in count.items() if number > MOST_MODULES} == {}


# one folder a kernel, and one a command: their files have the same part in each
SAME_PART = {"gpu.py", "reference.py"}


def test_no_two_modules_share_a_name():
    count = Counter(path.name for path in MODULES if path.name not in {"__init__.py", "__main__.py"} | SAME_PART)
    commands = {path.name for path in (PACKAGE / "cli" / "commands").rglob("*.py")}  # named as what is typed
    assert {name: number for name, number in count.items() if number > 1 and name not in commands} == {}


def test_tests_lie_where_the_modules_lie():
    folders = {path.parent for path in (REPOSITORY / "tests").rglob("test_*.py")} - {REPOSITORY / "tests"}
    assert [str(each) for each in folders if not (PACKAGE / each.relative_to(REPOSITORY / "tests")).is_dir()] == []


# a dataclass and a protocol: whatever trains is a test of it
WITHOUT_OWN_TEST = {"training/task.py"}


def test_every_module_has_its_test_where_a_reader_looks():
    missing = []
    for path in MODULES:
        inside = path.relative_to(PACKAGE)
        functions = any(isinstance(node, ast.FunctionDef) for node in ast.walk(ast.parse(path.read_text("utf-8"))))
        if not functions or path.name in {"__init__.py", "__main__.py"} or str(inside) in WITHOUT_OWN_TEST:
            continue
        names = (path.stem, f"{inside.parent.name}_{path.stem}")  # the second where the first is taken elsewhere
        if not any((REPOSITORY / "tests" / inside.parent / f"test_{name}.py").is_file() for name in names):
            missing.append(str(inside))
    assert missing == []
