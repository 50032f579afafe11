"""What stops a run before its ranks are started on other hosts."""

import pytest

from thunder.cluster.health.finding import Finding
from thunder.errors import ClusterError, UsageError
from thunder.launcher.remote_checks import check_findings

LINK = Finding("link", "failure", "Mac4 -> Mac5", "no answer", "plug it in")
SSH = Finding("ssh", "failure", "Mac5", "refused", "ssh-copy-id mac5")
DATA = Finding("data", "failure", "Mac5", "train.jsonl is missing", "copy it")
MODEL = Finding("model", "failure", "Mac4", "no such model")
WARNING = Finding("power", "warning", "Mac4", "on battery", "plug in")
OK = Finding("link", "ok", "Mac5 -> Mac4", "0.4 ms")


@pytest.mark.parametrize("skip", [False, True])
def test_warnings_stop_nothing(skip):
    assert check_findings([WARNING, OK], skip) == []
    assert check_findings([], skip) == []


def test_links_may_be_skipped_and_are_listed():
    assert check_findings([LINK, OK], True) == ["link Mac4 -> Mac5: no answer"]


@pytest.mark.parametrize(
    "found, skip, kind, named, unnamed",
    [
        ([LINK], False, ClusterError, ["link Mac4 -> Mac5: no answer", "to fix: plug it in", "--skip-link-check"], []),
        ([LINK, SSH], True, ClusterError, ["ssh Mac5: refused", "thunder_status"], ["no answer", "--skip"]),
        ([DATA, MODEL], False, UsageError, ["train.jsonl is missing", "no such model"], ["--skip"]),
        ([DATA, SSH, WARNING], False, ClusterError, ["train.jsonl is missing", "refused"], ["battery"]),
        ([DATA, LINK], True, UsageError, ["train.jsonl"], ["no answer"]),
    ],
)
def test_every_failure_is_named_with_its_fix(found, skip, kind, named, unnamed):
    with pytest.raises(kind) as caught:
        check_findings(found, skip)
    assert type(caught.value) is kind
    assert all(text in str(caught.value) for text in named) and not any(text in str(caught.value) for text in unnamed)
