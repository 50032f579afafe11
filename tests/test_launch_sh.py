"""launch.sh with stub programs: which Python, when it installs, what it starts. Nothing here touches the network."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
import tomllib
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
SCRIPTS = [REPO / "launch.sh", REPO / ".ci" / "run", REPO / "scripts" / "thunder_python.sh"]
TOOLS = "bash cat cp env find kill mkdir mktemp mv perl ps readlink rm rmdir sed sha256sum shasum sleep tail touch"
# A stand-in for every Python: answers the version question, makes environments, notes everything else in $CALLS.
PYTHON_STUB = """#!/usr/bin/env bash
me=${0##*/}
case "${1-} ${2-}" in
  "-c "*platform.machine*)
    [ "@VERSION@" != none ] || exit 127
    echo "@VERSION@ arm64 @VENV@"; exit 0 ;;
  "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo "venv $me" >>"$CALLS"; exit 0 ;;
esac
printf '%s' "run" >>"$CALLS"
for word in "$@"; do printf '|%s' "$word" >>"$CALLS"; done
printf '\\n' >>"$CALLS"
case " $* " in
  *" --version "*) exit 0 ;;
  *" pip install "*)
    if [ -n "${STUB_WAIT-}" ]; then sleep "$STUB_WAIT"; fi
    if [ -n "${STUB_FAIL-}" ]; then echo "installing"; echo "no route to the index"; exit 9; fi ;;
  *" pytest "*) echo "preload=${LD_PRELOAD-} threads=${OPENBLAS_NUM_THREADS-} cwd=$PWD" >>"$CALLS" ;;
esac
"""

UV_STUB = """#!/usr/bin/env bash
printf '%s' "uv" >>"$CALLS"
for word in "$@"; do printf '|%s' "$word" >>"$CALLS"; done
printf '\\n' >>"$CALLS"
if [ "$1" = venv ]; then
  for word in "$@"; do folder=$word; done
  mkdir -p "$folder/bin" && cp "$STUB_PYTHON" "$folder/bin/python"
fi
"""


class Place:
    """A copy of launch.sh in a folder of its own, with a PATH on which only stubs and a few tools are found."""

    def __init__(self, root: Path) -> None:
        self.repo = root / "a clone with spaces"
        self.bin = root / "bin"
        self.calls_file = root / "calls"
        for folder in (self.repo, self.bin, root / "home", root / "tmp"):
            folder.mkdir()
        shutil.copy(REPO / "launch.sh", self.repo / "launch.sh")
        (self.repo / "requirements.lock").write_text("mlx==1\n")
        (self.repo / "pyproject.toml").write_text("[project]\n")
        for tool in TOOLS.split():
            if found := shutil.which(tool):
                (self.bin / tool).symlink_to(found)
        openblas = root / "libopenblas.so.0"
        openblas.touch()
        self.env = {
            "PATH": str(self.bin),
            "HOME": str(root / "home"),
            "TMPDIR": str(root / "tmp"),
            "CALLS": str(self.calls_file),
            "OSTYPE": "linux-gnu",
            "THUNDER_NO_APT": "1",
            "THUNDER_OPENBLAS": str(openblas),
            "STUB_PYTHON": str(root / "stub_python"),
        }
        self.executable(root / "stub_python", self.python_text("3 12 4"))

    @staticmethod
    def executable(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    @staticmethod
    def python_text(version: str, venv: str = "venv") -> str:
        return PYTHON_STUB.replace("@VERSION@", version).replace("@VENV@", venv)

    def add_python(self, name: str, version: str, venv: str = "venv") -> None:
        self.executable(self.bin / name, self.python_text(version, venv))

    def add(self, name: str, text: str) -> None:
        self.executable(self.bin / name, text)

    def start(self, *words: str, script: Path | None = None, cwd: Path | None = None, **env: str) -> subprocess.Popen:
        command = [str(self.bin / "bash"), str(script or self.repo / "launch.sh"), *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command,
            env={**self.env, **env},
            cwd=cwd or self.bin,
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )

    def launch(self, *words: str, **options) -> tuple[int, str]:
        """Exit code and what was said on stderr."""
        process = self.start(*words, **options)
        _, said = process.communicate(timeout=60)
        return process.returncode, said

    def calls(self) -> list[str]:
        """What the stubs were asked since the last time, without the harmless questions."""
        text = self.calls_file.read_text() if self.calls_file.exists() else ""
        self.calls_file.unlink(missing_ok=True)
        return [line for line in text.splitlines() if not line.endswith("|--version") and "import mlx" not in line]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def ready(place: Place) -> Place:
    """The environment already prepared."""
    place.add_python("python3", "3 12 4")
    code, said = place.launch("setup")
    assert code == 0, said
    place.calls()
    return place


PIP = "run|-m|pip|install|--no-input|--disable-pip-version-check"
LOCKED = f"{PIP}|--require-hashes|--only-binary|:all:|-r|requirements.lock"
ITSELF = f"{PIP}|--no-deps|--no-build-isolation|-e|."


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_for_bash_3_2(script: Path):
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=10)
    newer = r"mapfile|readarray|declare -[An]|local -n|\$\{\w+(,,|\^\^)|&>>|\|&|;;&|coproc|wait -n|BASHPID|readlink -f"
    assert not re.findall(newer, script.read_text())


def test_lock_names_no_host_and_covers_the_project():
    lock = (REPO / "requirements.lock").read_text()
    assert "://" not in lock and not re.search(r"^(torch|nvidia-\S*)==", lock, re.MULTILINE)
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE))
    assert locked["mlx"] == locked["mlx-cpu"] == locked["mlx-metal"]
    assert lock.count("--hash=sha256:") >= len(locked)
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    on_request = {"parquet", "zstd"}  # readers of files that few have; setup does not install them
    installed = sum((lines for extra, lines in extras.items() if extra not in on_request), project["dependencies"])
    wanted = {re.split(r"[^a-z0-9-]", line)[0] for line in installed}
    assert not wanted - {"thunder-train"} - set(locked), "regenerate requirements.lock: its first lines say how"


def test_no_python(place: Place):
    code, said = place.launch("doctor")
    assert code == 2
    assert "3.11 to 3.14 is needed" in said and "none at all" in said and "apt-get install python3.11" in said
    assert not (place.repo / ".venv").exists() and not (place.repo / ".venv.lock").exists()


def test_no_python_on_a_mac(place: Place):
    if Path("/opt/homebrew/bin/python3").exists():
        pytest.skip("this Mac has Homebrew's Python, which launch.sh rightly finds")
    code, said = place.launch("doctor", OSTYPE="darwin23")
    assert code == 2 and "brew install python@3.12" in said


def test_unfit_pythons_are_named(place: Place):
    place.add_python("python3.13", "none")
    place.add_python("python3", "3 9 6")
    place.add_python("python", "3 15 0")
    code, said = place.launch()
    assert code == 2
    assert "python3.13 (does not run)" in said
    assert "python3 (3.9.6, too old)" in said
    assert "python (3.15.0, newer" in said


def test_python_without_venv_names_the_package(place: Place):
    place.add_python("python3.11", "3 11 2", venv="bare")
    code, said = place.launch()
    assert code == 2 and "apt-get install python3.11-venv" in said


def test_a_shim_that_fails_is_passed_over(place: Place):
    place.add_python("python3.13", "none")
    place.add_python("python3", "3 11 7")
    assert place.launch("setup")[0] == 0
    assert "venv python3" in place.calls()


def test_thunder_python_decides(place: Place, tmp_path: Path):
    place.add_python("python3", "3 12 4")
    place.executable(tmp_path / "my python", place.python_text("3 13 0"))
    assert place.launch("setup", THUNDER_PYTHON=str(tmp_path / "my python"))[0] == 0
    assert "venv my python" in place.calls()


def test_thunder_python_that_does_not_fit_is_an_error(place: Place):
    place.add_python("python3", "3 12 4")
    place.add_python("old", "3 8 1")
    code, said = place.launch("setup", THUNDER_PYTHON="old")
    assert code == 2 and "THUNDER_PYTHON=old" in said and "3.8.1, too old" in said
    code, said = place.launch("setup", THUNDER_PYTHON="/nowhere/python")
    assert code == 2 and "no such program" in said


def test_pip_where_there_is_no_uv(place: Place):
    place.add_python("python3", "3 12 4")
    code, said = place.launch("setup")
    assert code == 0 and "preparing" in said and "ready after" in said
    assert place.calls() == ["venv python3", LOCKED, ITSELF]


def test_uv_is_preferred(place: Place):
    place.add_python("python3.12", "3 12 4", venv="bare")  # uv needs no venv module
    place.add("uv", UV_STUB)
    assert place.launch("setup")[0] == 0
    venv = place.repo / ".venv"
    made, locked, itself = place.calls()
    assert made == f"uv|venv|--no-project|--python|{place.bin}/python3.12|{venv}"
    assert locked.startswith(f"uv|pip|install|--python|{venv}/bin/python|--require-hashes")
    assert itself.endswith("--no-deps|--no-build-isolation|-e|.")


def test_uv_brings_python_where_there_is_none(place: Place):
    place.add("uv", UV_STUB)
    assert place.launch("setup")[0] == 0
    assert "--python|>=3.11,<3.15|" in place.calls()[0]


def test_second_call_installs_nothing(ready: Place):
    code, said = ready.launch("setup")
    assert (code, ready.calls()) == (0, [])
    assert said == "launch.sh: ready. ./launch.sh COMMAND works from anywhere; for thunder and thunder_status: " + (
        f'export PATH="{ready.repo}/.venv/bin:$PATH"\n'
    )


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_changed_lock_installs_again(ready: Place, name: str):
    (ready.repo / name).write_text("changed\n")
    assert ready.launch("setup")[0] == 0
    assert ready.calls() == [LOCKED, ITSELF]  # into the same environment
    assert ready.launch("setup")[0] == 0
    assert ready.calls() == []


def test_the_version_is_asked_of_the_command_that_has_it(ready: Place):
    assert ready.launch("--version")[0] == 0
    assert "-P|-m|thunder|--version" in ready.calls_file.read_text(), "training has no --version"


def test_moved_clone_installs_again(ready: Place):
    ready.repo = ready.repo.rename(ready.repo.with_name("moved"))
    assert ready.launch("setup")[0] == 0
    assert ready.calls() == [LOCKED, ITSELF]


def test_environment_whose_python_is_gone_is_made_again(ready: Place):
    python = ready.repo / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python")
    assert ready.launch("setup")[0] == 0
    assert ready.calls() == ["venv python3", LOCKED, ITSELF]


def test_failed_installation_says_why_and_is_repaired(place: Place):
    place.add_python("python3", "3 12 4")
    code, said = place.launch("doctor", STUB_FAIL="1")
    assert code == 1
    assert "no route to the index" in said and "to fix:" in said and "whole log" in said
    assert not any("thunder" in call for call in place.calls())
    assert not (place.repo / ".venv.lock").exists()
    code, said = place.launch("setup")
    assert code == 0 and "starting afresh" in said
    assert place.calls() == ["venv python3", LOCKED, ITSELF]


def wait_for(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def installing(place: Place) -> bool:
    return place.calls_file.exists() and "pip|install" in place.calls_file.read_text()


def test_terminated_installation_is_repaired(place: Place):
    place.add_python("python3", "3 12 4")
    process = place.start("setup", STUB_WAIT="30")
    wait_for(lambda: installing(place))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert not (place.repo / ".venv.lock").exists()
    place.calls()
    code, said = place.launch("setup")
    assert code == 0 and "starting afresh" in said
    assert place.calls() == ["venv python3", LOCKED, ITSELF]


def test_killed_owner_leaves_a_lock_that_is_taken_over(place: Place):
    place.add_python("python3", "3 12 4")
    gone = subprocess.Popen(["true"])
    gone.wait()
    (place.repo / ".venv.lock").mkdir()
    host = subprocess.run(["bash", "-c", 'echo "$HOSTNAME"'], capture_output=True, text=True, timeout=10).stdout.strip()
    (place.repo / ".venv.lock" / "pid").write_text(f"{gone.pid} {host}\n")
    code, said = place.launch("setup")
    assert code == 0 and f"taking over from process {gone.pid}" in said


@pytest.mark.expensive
def test_two_at_once_install_once(place: Place):
    place.add_python("python3", "3 12 4")
    first = place.start("setup", STUB_WAIT="1")
    wait_for(lambda: installing(place))
    code, said = place.launch("one")
    _, first_said = first.communicate(timeout=60)
    assert (first.returncode, code) == (0, 0), first_said
    assert f"another launch.sh (process {first.pid})" in said and "preparing /" not in said
    assert place.calls() == ["venv python3", LOCKED, ITSELF, "run|-P|-m|thunder|one"]


@pytest.mark.parametrize(
    ("words", "run"),
    [
        ([], "launch"),
        (["--help"], "launch|--help"),
        (
            ["--preset", "two words", "", 'a"b', "it's", "$HOME", "*", "\\n"],
            "launch|--preset|two words||a\"b|it's|$HOME|*|\\n",
        ),
        (["doctor", "--json", ""], "doctor|--json|"),
        (["corpus", "validate", "a b.jsonl"], "corpus|validate|a b.jsonl"),
    ],
)
def test_words_arrive_as_they_are(ready: Place, words: list[str], run: str):
    assert ready.launch(*words) == (0, "")
    assert ready.calls() == [f"run|-P|-m|thunder|{run}"]


def test_through_a_link_from_another_folder(ready: Place, tmp_path: Path):
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "one").symlink_to("../" + ready.repo.name + "/launch.sh")
    (tmp_path / "thunder train").symlink_to("links/one")
    assert ready.launch("status", script=Path("thunder train"), cwd=tmp_path) == (0, "")
    assert ready.calls() == ["run|-P|-m|thunder|status"]


def test_launch_sh_outside_a_clone(place: Place, tmp_path: Path):
    shutil.copy(place.repo / "launch.sh", tmp_path / "launch.sh")
    code, said = place.launch(script=tmp_path / "launch.sh")
    assert code == 2 and "requirements.lock" in said


def test_test_runs_pytest_in_the_repository(ready: Place):
    assert ready.launch("test", "-k", "two words")[0] == 0
    asked, seen = ready.calls()
    assert asked == "run|-m|pytest|-n|auto|--dist|worksteal|-k|two words"
    assert seen == f"preload={ready.env['THUNDER_OPENBLAS']} threads=1 cwd={ready.repo.resolve()}"


def test_test_on_a_mac_preloads_nothing(ready: Place):
    assert ready.launch("test", OSTYPE="darwin23") == (0, "")
    assert ready.calls()[1].startswith("preload= threads= cwd=")


@pytest.mark.parametrize(
    ("words", "run"),
    [(["docs"], "build|--strict"), (["docs", "--serve"], "serve|--strict|--dev-addr|127.0.0.1:8000")],
)
def test_docs_writes_the_generated_pages_and_builds(ready: Place, words: list[str], run: str):
    assert ready.launch(*words) == (0, "")
    assert ready.calls() == ["run|scripts/build_reference_docs.py", f"run|-m|mkdocs|{run}"]


def test_docs_takes_one_option(ready: Place):
    code, said = ready.launch("docs", "--open")
    assert code == 2 and "--open" in said and ready.calls() == []


def test_setup_takes_no_arguments(ready: Place):
    code, said = ready.launch("setup", "--fast")
    assert code == 2 and "--fast" in said


APT_STUB = """#!/usr/bin/env bash
echo "apt $*" >>"$CALLS"
case " $* " in *" install "*) if [ -n "${STUB_APT-}" ]; then touch "$STUB_APT"; else exit 100; fi ;; esac
"""


def test_openblas_is_installed_where_it_may_be(ready: Place, tmp_path: Path):
    ready.add("apt-get", APT_STUB)
    ready.add("sudo", '#!/usr/bin/env bash\n[ "$1" = -n ] && shift && exec "$@"\n')
    ready.add("true", "#!/usr/bin/env bash\n")
    library = str(tmp_path / "new.so")
    code, said = ready.launch("test", THUNDER_NO_APT="", THUNDER_OPENBLAS=library, STUB_APT=library)
    assert code == 0 and "installing OpenBLAS" in said
    apt, _, seen = ready.calls()
    assert "install -y --no-install-recommends libopenblas0-pthread" in apt and f"preload={library} " in seen


def test_openblas_that_cannot_be_installed_is_one_line_and_no_failure(ready: Place):
    ready.add("apt-get", APT_STUB)
    ready.add("sudo", '#!/usr/bin/env bash\n[ "$1" = -n ] && shift && exec "$@"\n')
    ready.add("true", "#!/usr/bin/env bash\n")
    missing = {"THUNDER_NO_APT": "", "THUNDER_OPENBLAS": "/nowhere/libopenblas.so.0"}
    code, said = ready.launch("doctor", **missing)
    assert code == 0 and "install libopenblas0-pthread" in said
    assert [call.split()[-1] for call in ready.calls()] == [
        "libopenblas0-pthread",
        "update",
        "libopenblas0-pthread",
        "run|-P|-m|thunder|doctor",
    ]
    code, said = ready.launch("doctor", **missing)  # tried once
    assert code == 0 and said.count("\n") == 1 and ready.calls() == ["run|-P|-m|thunder|doctor"]


def test_openblas_is_left_alone_on_request(ready: Place):
    ready.add("apt-get", APT_STUB)
    code, said = ready.launch("doctor", THUNDER_OPENBLAS="/nowhere/libopenblas.so.0")
    assert code == 0 and said.count("\n") == 1 and ready.calls() == ["run|-P|-m|thunder|doctor"]


def test_thunder_python_sh(tmp_path: Path):
    script = tmp_path / "a clone" / "scripts" / "thunder_python.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(REPO / "scripts" / "thunder_python.sh", script)

    def run(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run(["bash", str(script), *words], capture_output=True, text=True, timeout=10)

    missing = run()
    assert missing.returncode == 2 and "./launch.sh setup" in missing.stderr
    for environment in (".venv-agp", ".venv"):  # the second is preferred
        python = script.parents[1] / environment / "bin" / "python"
        python.parent.mkdir(parents=True)
        Place.executable(python, '#!/usr/bin/env bash\nprintf "%s|" "$@"\n')
        assert run().stdout.strip() == str(python.resolve())
    assert run("-m", "a b", "").stdout == "-m|a b||"
