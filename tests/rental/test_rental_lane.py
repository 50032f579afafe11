"""Rentals from the order to the release, against a program that replays offers, machines and faults."""

from __future__ import annotations

import json

import planted_runs
import pytest
from fakes.fake_vast import FakeVast
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.errors import GateError, RunFailed, ThunderError, UsageError
from thunder.rental import rental_lane
from thunder.rental.rental_lane import RentalSession
from thunder.rental.rental_ledger import RentalLedger
from thunder.rental.rental_offers import RentalOrder
from thunder.rental.vastai import RentalError, VastClient
from thunder.runs.bundles import bundle

KEY = "secret-0123456789abcdef"
RUN = "small.traj-s1"


class InProcess(VastClient):
    """The program without a process, so that many orders of faults take little time."""

    def __init__(self, fake: FakeVast) -> None:
        super().__init__({"VAST_API_KEY": KEY})
        self.fake = fake

    def _run_program(self, words, timeout):
        code, said = self.fake.handle(list(words))
        if code:
            raise RentalError(self._redact_key(f"vastai {words[0]}: exit code {code}: {said}"))
        return said


class Clock:
    """Time that passes when somebody sleeps."""

    now = 1_000_000.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def world(tmp_path):
    """(fake service, lane to it); a finished run lies ready for the machine to have made."""
    return made(tmp_path)


def made(tmp_path):
    (tmp_path / "vast").mkdir()
    finished = planted_runs.recognizer_run(tmp_path / "elsewhere", RUN)
    (tmp_path / "vast" / "made").symlink_to(finished)
    fake, clock, root = FakeVast(tmp_path / "vast"), Clock(), tmp_path / "runs"
    root.mkdir()
    lane = RentalSession(
        InProcess(fake),
        RentalLedger(root, clock),
        root,
        bundle.bundle_faults,
        lambda text: None,
        clock.sleep,
        30.0,
        clock,
    )
    return fake, lane


def order(tmp_path, **changes) -> RentalOrder:
    payload = tmp_path / "features"
    payload.mkdir(exist_ok=True)
    (payload / "index.json").write_text("{}")
    said = {"run": RUN, "label": rental_lane.new_rental_label(RUN), "argv": ["./launch.sh", "asr", "train"],
            "hours": 2.0, "cap_usd": 5.0, "image": "x", "disk_gb": 10, "payload": [str(payload)]}  # fmt: skip
    return RentalOrder(**(said | changes))


def launch(lane, tmp_path, *, yes=True, gates=None, **changes):
    (tmp_path / "scratch").mkdir(exist_ok=True)
    return rental_lane.launch_rental(lane, order(tmp_path, **changes), gates or {}, "query", tmp_path / "scratch", yes)


def events(lane):
    return [json.loads(line)["event"] for line in lane.ledger.path.read_text().splitlines()]


def test_the_whole_way(world, tmp_path):
    fake, lane = world
    number = launch(lane, tmp_path)
    assert fake.running() == [str(number)] and fake.state["machines"][str(number)]["dph_total"] == 0.60
    assert (tmp_path / "vast/disks" / str(number) / "workspace/in/features/index.json").is_file()
    with pytest.raises(GateError, match="no copy of it is here"):
        rental_lane.destroy_rental(lane, RUN)
    assert rental_lane.follow_rental(lane, RUN) == "ended"
    assert fake.state["machines"] == {} and bundle.bundle_faults(lane.root / RUN) == []
    assert events(lane) == ["ordered", "created", "started", "synced", "destroyed"]
    hours = (lane.clock() - 1_000_000) / 3600
    assert 0 < lane.ledger.spent_usd() <= 0.6 * hours
    with pytest.raises(UsageError, match="nothing is rented"):
        rental_lane.destroy_rental(lane, RUN)


@pytest.mark.parametrize("gates, yes, changes", [
    ({}, False, {}), ({"matrix": "a fault"}, True, {}), ({"rehearsal": "none"}, True, {}),
    ({}, True, {"cap_usd": 1.19}),
])  # fmt: skip
def test_nothing_is_rented_without_yes_gates_and_money(world, tmp_path, gates, yes, changes):
    fake, lane = world
    if not yes:
        assert launch(lane, tmp_path, yes=False) is None
    else:
        with pytest.raises(GateError):
            launch(lane, tmp_path, gates=gates, **changes)
    assert "create instance" not in fake.state["calls"] and not lane.ledger.path.exists()


def test_the_cap_holds_over_all_runs(world, tmp_path):
    fake, lane = world
    assert launch(lane, tmp_path, cap_usd=2.0)
    with pytest.raises(UsageError, match="has a rented machine already"):
        launch(lane, tmp_path, cap_usd=2.0)
    lane.sleep(2 * 3600)  # 1.20 USD of the first
    with pytest.raises(GateError, match="more than the cap of 2.00"):
        launch(lane, tmp_path, cap_usd=2.0, run="other")
    assert len(fake.state["machines"]) == 1


# faults and what becomes of them, each in an order of its own; `launch` and then `follow`, whatever the first said
FAULTS = {
    "offers fail once": [{"command": "search offers", "how": "error"}],
    "offers always fail": [{"command": "search offers", "how": "error", "times": 99}],
    "offers are nonsense": [{"command": "search offers", "how": "nonsense", "times": 99}],
    "the order is refused": [{"command": "create instance", "how": "error"}],
    "the order is done and answered by an error": [{"command": "create instance", "how": "late"}],
    "the order is done and answered by nonsense": [{"command": "create instance", "how": "nonsense"}],
    "an order done, answered by an error, and late in the list": [
        {"command": "create instance", "how": "late"}, {"command": "show instances", "how": "unseen"}],
    "the list fails while it comes up": [{"command": "show instances", "how": "error", "nth": 2, "times": 2}],
    "the list fails for long while it comes up": [{"command": "show instances", "how": "error", "nth": 1, "times": 4}],
    "the trial upload fails for good": [{"command": "copy", "how": "error", "times": 4}],
    "the payload fails once": [{"command": "copy", "how": "error", "nth": 3}],
    "the payload fails for good": [{"command": "copy", "how": "error", "nth": 3, "times": 4}],
    "the word to begin is taken, and answered by an error": [{"command": "copy", "how": "late", "nth": 4, "times": 4}],
    "giving back fails twice": [
        {"command": "copy", "how": "error", "times": 4}, {"command": "destroy instance", "how": "error", "times": 2}],
    "giving back is answered by an error": [{"command": "destroy instance", "how": "late", "times": 2}],
    "the log fails for a while": [{"command": "logs", "how": "error", "times": 5}],
    "the log fails for ever": [{"command": "logs", "how": "error", "times": 9999}],
    "the copy fails once": [{"command": "copy", "how": "error", "nth": 5}],
    "the copy fails for good": [{"command": "copy", "how": "error", "nth": 5, "times": 99}],
    "stopping fails twice": [
        {"command": "copy", "how": "error", "nth": 5, "times": 99},
        {"command": "stop instance", "how": "error", "times": 2}],
    "the list is nonsense at the end": [{"command": "show instances", "how": "nonsense", "nth": 6, "times": 2}],
    "everything fails once": [{"command": command, "how": "error"} for command in (
        "search offers", "show instances", "copy", "logs", "stop instance", "destroy instance")],
}  # fmt: skip
WORLDS = {"never_up": True}, {"garbles": True}, {"torn": True}, {"nan": True}, {"die": 2}, {"stalls": True}, {"code": 1}
CAP = 1.25  # USD; two hours of the machine that is chosen are 1.20


def whole(lane) -> bool:
    return (lane.root / RUN).is_dir() and not bundle.bundle_faults(lane.root / RUN)


def watch_destroying(fake, lane) -> list[str]:
    """What was destroyed though its run had begun and no whole copy was here."""
    lost, destroy = [], fake._destroy_instance

    def destroyed(words):
        one = fake.state["machines"].get(words[2])
        if one and "started" in lane.ledger.rentals().get(one["label"], {}) and not whole(lane):
            lost.append(words[2])
        return destroy(words)

    fake._destroy_instance = destroyed
    return lost


def test_the_orders_of_faults_are_many_and_distinct():
    distinct = {json.dumps(one, sort_keys=True) for one in (*FAULTS.values(), *WORLDS)}
    assert len(distinct) == len(FAULTS) + len(WORLDS) >= 20


@pytest.mark.parametrize("name", [*FAULTS, *(next(iter(one)) for one in WORLDS)])
def test_nothing_is_left_running_in_any_order_of_faults(world, tmp_path, name):
    fake, lane = world
    fake.state["faults"] = FAULTS.get(name, [])
    fake.state |= next((one for one in WORLDS if name in one), {})
    after_any_order(fake, lane, tmp_path)


COMMANDS = ("search offers", "create instance", "show instances", "copy", "logs", "stop instance", "destroy instance")


@pytest.mark.expensive
@settings(max_examples=60)
@given(
    faults=st.dictionaries(
        st.sampled_from(COMMANDS),
        st.tuples(st.sampled_from(["error", "late", "nonsense"]), st.integers(1, 8), st.integers(1, 3)),
        max_size=5,
    ),
    bad=st.sampled_from([{}, *WORLDS]),
)
def test_nothing_is_left_running_in_orders_that_nobody_thought_of(tmp_path_factory, faults, bad):
    folder = tmp_path_factory.mktemp("order")
    fake, lane = made(folder)
    fake.state["faults"] = [
        {"command": command, "how": how, "nth": nth, "times": times} for command, (how, nth, times) in faults.items()
    ]
    fake.state |= bad
    after_any_order(fake, lane, folder)


def after_any_order(fake, lane, tmp_path):
    """Launch and follow, whatever becomes of it: nothing runs, nothing is lost, the cap holds, the key is not told."""
    begun, said, lost = None, "", watch_destroying(fake, lane)
    try:
        begun = launch(lane, tmp_path, cap_usd=CAP)
        said = rental_lane.follow_rental(lane, RUN)
    except ThunderError as error:
        said = error.message
        assert KEY not in str(error)
    assert fake.running() == [], said
    assert lost == [] and lane.ledger.spent_usd() <= CAP
    if begun is None or whole(lane):
        assert fake.state["machines"] == {}, "nothing to lose, or nothing lost: it is given back"
        assert not lane.ledger.path.exists() or lane.ledger.open_rentals() == {}
    else:
        assert [one["status"] for one in fake.state["machines"].values()] in (["stopped"], ["exited"])
        with pytest.raises(GateError, match="not released"):
            rental_lane.destroy_rental(lane, RUN)
        fake.state["faults"] = []
        rental_lane.destroy_rental(lane, RUN, force=True)
        assert fake.state["machines"] == {}


def test_what_was_stopped_can_be_copied_later(world, tmp_path):
    fake, lane = world
    launch(lane, tmp_path)
    fake.state["faults"] = [{"command": "copy", "how": "error", "nth": 5, "times": 4}]
    with pytest.raises(GateError, match="not copied"):
        rental_lane.follow_rental(lane, RUN)
    assert [one["status"] for one in fake.state["machines"].values()] == ["stopped"]
    assert rental_lane.sync_rental(lane, RUN) == []
    rental_lane.destroy_rental(lane, RUN)
    assert fake.state["machines"] == {} and events(lane)[-3:] == ["stopped", "synced", "destroyed"]


def test_a_machine_that_somebody_destroyed(world, tmp_path):
    fake, lane = world
    number = launch(lane, tmp_path)
    fake.state["machines"].clear()
    with pytest.raises(RunFailed, match="the machine is gone"):
        rental_lane.follow_rental(lane, RUN)
    assert lane.ledger.open_rentals() == {} and number


def test_hours_and_money_end_a_run(world, tmp_path):
    fake, lane = world
    fake.state["looks"] = 10_000
    launch(lane, tmp_path)
    with pytest.raises(RunFailed, match="its 2 hours are over"):
        rental_lane.follow_rental(lane, RUN)
    assert fake.running() == []


def test_a_fault_of_ours_stops_the_machine_too(world, tmp_path):
    fake, lane = world
    launch(lane, tmp_path)

    def verify(folder):
        raise OSError("no space left")

    lane.verify = verify
    with pytest.raises(OSError, match="no space"):
        rental_lane.follow_rental(lane, RUN)
    assert [one["status"] for one in fake.state["machines"].values()] == ["stopped"]
