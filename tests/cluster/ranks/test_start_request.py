"""What an agent takes for a request, and what it does not."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.cluster.inventory.cluster_file import Cluster, Host
from thunder.cluster.ranks.protocol import PROTOCOL
from thunder.cluster.ranks.start_request import parse_start_request
from thunder.errors import UsageError
from thunder.launcher import attempts

GOOD = {
    "protocol": PROTOCOL,
    "rank": 0,
    "host": "Mac4",
    "folder": "~/runs/r",
    "argv": ["python3", "-P", "-m", "thunder", "rank", "~/runs/r", "--job", "train"],
    "env": {"MLX_RANK": "0"},
    "addresses": ["10.0.0.1:20000"],
    "files": {"config.yaml": "a: 1\n"},
}


def test_what_the_launcher_plans_is_a_request(monkeypatch):
    monkeypatch.setenv("THUNDER_FAULTS", "kill@step:step=3")
    hosts = [Host(name=f"Mac{n}", ssh=f"mac{n}", ips=[f"10.0.0.{n}"]) for n in (4, 5)]
    for kind in ("train", "smoke"):
        plans = attempts.rank_plans(kind, Cluster(name="desk", hosts=hosts), Path("/here/runs/r"), "ab", [20000, 20001])
        for plan in plans:
            said = {"protocol": PROTOCOL, "rank": plan.rank, "host": plan.host.name, "folder": plan.run_folder}
            said |= {"argv": list(plan.argv), "env": plan.env, "addresses": list(plan.addresses)}
            files = dict.fromkeys((*attempts.SENT, "hostfile.json"), "")
            request = parse_start_request(json.loads(json.dumps(said | {"files": files, "transient": kind == "smoke"})))
            assert request.folder == "runs/r" and request.argv[0] == sys.executable


REFUSED = {
    "protocol": ({"protocol": 99}, "speaks protocol 99"),
    "another version's field": ({"protocol": 2, "colour": "red"}, "speaks protocol 2"),
    "no protocol": ({"protocol": None}, "protocol: Input should be a valid integer"),
    "a text for a number": ({"rank": "0"}, "rank: Input should be a valid integer"),
    "a rank below none": ({"rank": -1}, "rank: "),
    "an unknown field": ({"shell": "rm"}, "shell: "),
    "argv as a text": ({"argv": "sh -c true"}, "argv: Input should be a valid list"),
    "no argv": ({"argv": []}, "argv: "),
    "another program": ({"argv": ["sh", "-c", "touch /tmp/x"]}, "the agent starts only ranks, not '-c touch"),
    "another module": ({"argv": ["p", "-P", "-m", "http.server"]}, "starts only ranks"),
    "another subcommand": ({"argv": ["p", "-P", "-m", "thunder", "train", "x"]}, "starts only ranks"),
    "another folder": ({"argv": ["p", "-P", "-m", "thunder", "rank", "/elsewhere"]}, "starts only ranks"),
    "env as a list": ({"env": ["A=1"]}, "env: Input should be a valid dict"),
    "an env name with =": ({"env": {"A=B": "1"}}, "'A=B' is not the name"),
    "an env name of a function": ({"env": {"BASH_FUNC_ls%%": "() { :; }"}}, "is not the name"),
    "an env value with a null": ({"env": {"A": "a\0b"}}, "U+0000"),
    "a file above": ({"files": {"../x": ""}}, "'../x' is not one of the files"),
    "an absolute file": ({"files": {"/etc/x": ""}}, "is not one of the files"),
    "a file below": ({"files": {"a/b": ""}}, "is not one of the files"),
    "a file of another name": ({"files": {".profile": ""}}, "is not one of the files"),
    "a file that is no text": ({"files": {"config.yaml": 3}}, "files.config.yaml: "),
    "an empty folder": ({"folder": ""}, "folder: "),
    "a folder with a null": ({"folder": "a\0b"}, "folder: "),
    "no address": ({"addresses": []}, "addresses: "),
    "a name for an address": ({"addresses": ["Mac4:5000"]}, "expected an IPv4 address"),
    "a port that is none": ({"addresses": ["127.0.0.1:x"]}, "expected 'ip:port'"),
    "a port too high": ({"addresses": ["127.0.0.1:70000"]}, "expected 'ip:port'"),
}


@pytest.mark.parametrize("changed, text", REFUSED.values(), ids=REFUSED)
def test_a_request_that_cannot_be_used_is_refused_by_name(changed, text):
    assert parse_start_request(GOOD).rank == 0
    with pytest.raises(UsageError) as caught:
        parse_start_request(GOOD | changed)
    assert text in caught.value.message and len(caught.value.message) < 1000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.expensive
@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(sorted(GOOD)), JSON, min_size=1, max_size=3))
def test_whatever_is_sent_is_a_rank_or_a_refusal(changed):
    try:
        request = parse_start_request(GOOD | changed)
    except UsageError:
        return
    assert request.argv[1:5] == ["-P", "-m", "thunder", "rank"] and request.argv[5] == request.folder
