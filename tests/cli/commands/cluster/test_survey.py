import io
import json
import subprocess
import sys

import pytest

from thunder import digest
from thunder.cli import main as cli
from thunder.cli.commands.cluster import survey
from thunder.cluster.health.host_report import SURVEY_PREFIX as MARK
from thunder.config import REPOSITORY


@pytest.fixture
def ask(monkeypatch, capsys, tmp_path):
    """The exit code and what is printed for a request."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))

    def asked(request):
        text = request if isinstance(request, str) else json.dumps(request)
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        code = cli.main(["survey"])
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(MARK)]
        return code, json.loads(line.removeprefix(MARK))

    return asked


def request(**settings):
    return {"job": "train", "settings": settings, "ranks": 2}


def test_the_sample(ask):
    code, said = ask(request())
    assert code == 0 and "error" not in said
    assert said["facts"]["data"]["sha256"]["train"] == digest.sha256_file(REPOSITORY / "data/sample/train.jsonl")
    assert said["facts"]["data"]["files"]["train"] == str(REPOSITORY / "data/sample/train.jsonl")
    assert said["facts"]["model"]["bytes"] == sum(
        path.stat().st_size for path in (REPOSITORY / "data/models/tiny-gemma4-nko").glob("*.safetensors")
    )
    assert said["lock"] == digest.sha256_file(REPOSITORY / "requirements.lock")
    assert said["versions"]["python"] == sys.version.split()[0] and min(said["cores"], said["memory"]) > 0


def test_paths_are_those_of_this_host(ask, monkeypatch, tmp_path):
    """Asked from another folder: relative to the project; ~ is this host's home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "rows.jsonl").write_bytes((REPOSITORY / "data/sample/valid.jsonl").read_bytes())
    code, said = ask(request(model="data/models/tiny-gemma4-nko", data="data/sample", valid_data="~/rows.jsonl"))
    assert code == 0, said
    assert said["facts"]["data"]["files"]["valid"] == str(tmp_path / "rows.jsonl")
    assert said["facts"]["model"]["path"] == str(REPOSITORY / "data/models/tiny-gemma4-nko")


@pytest.mark.parametrize(
    "settings, kind, said",
    [
        ({"model": "mlx-community/not-here"}, "ModelError", "not in the cache of this machine"),
        ({"model": "~/not-here"}, "ModelError", "no such folder"),
        ({"data": "not-here"}, "CorpusError", "no train.jsonl"),
        ({"train_data": "not-here.jsonl"}, "CorpusError", str(REPOSITORY / "not-here.jsonl")),
        ({"num_layer": 1}, "ConfigError", "unknown key 'num_layer'"),
        ({"num_layers": 99}, "UsageError", "the model has"),
    ],
)
def test_what_is_missing_is_named(ask, settings, kind, said):
    code, answer = ask(request(**settings))
    assert (code, answer["error"]["kind"], answer["error"]["exit_code"]) == (2, kind, 2)
    assert said in answer["error"]["message"] and answer["error"]["fix"]
    assert answer["versions"] and answer["project"] == str(REPOSITORY), "so that the other host can be told where"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"job": "dance", "settings": {}, "ranks": 2}', '{"job": "train"}'])
def test_a_request_that_is_none(ask, text):
    code, answer = ask(text)
    assert code == 2 and "the request does not have the form" in answer["error"]["message"]


def test_the_clusters_variables_count(ask, monkeypatch, tmp_path):
    monkeypatch.setenv("THUNDER_TEST_WORD", "before")
    ask(request() | {"env": {"THUNDER_TEST_WORD": "of the cluster"}, "runs": str(tmp_path / "no" / "such")})
    assert survey.os.environ["THUNDER_TEST_WORD"] == "of the cluster"


def test_pretraining_is_known_by_its_text(ask, tmp_path):
    lines = [f"ߞߊ߬ߟߊ߲ {number} ߦߋ߫ ߢߊ߬ߣߍ߲ ߠߋ߬ ߘߌ߫" for number in range(300)]
    (tmp_path / "open.tsv").write_text("nqo\n" + "\n".join(lines) + "\n", encoding="utf-8")
    settings = {"text_root": str(tmp_path), "text": ["open.tsv"]}
    code, said = ask({"job": "pretrain", "settings": settings, "ranks": 2})
    assert code == 0, said
    assert said["facts"]["data"]["files"] == {"open.tsv": str(tmp_path / "open.tsv")}
    before = said["facts"]["data"]["sha256"]
    (tmp_path / "open.tsv").write_text("nqo\n" + "\n".join(lines[1:]) + "\n", encoding="utf-8")
    assert ask({"job": "pretrain", "settings": settings, "ranks": 2})[1]["facts"]["data"]["sha256"] != before


@pytest.mark.expensive
def test_no_mlx_for_training():
    """The facts of a LoRA job are read from disk: a survey starts fast, and leaves the GPU alone."""
    program = "import sys; from thunder.cli import main; code = main.main(['survey']); "
    program += "assert not [name for name in sys.modules if name.split('.')[0] in ('mlx', 'mlx_lm')]; sys.exit(code)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], input=json.dumps(request()), text=True, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_it_is_not_in_the_list_of_commands(capsys):
    cli.main(["--help"])
    assert "survey" not in capsys.readouterr().out
