"""Run one job on a rented machine, from the order to the release of the machine, so that no machine runs by accident.

Before a run has started nothing can be lost, and any fault releases the machine. After that, only a verified copy of
the run lets the machine go; until then a fault stops it, which keeps its disk and frees its GPU.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from thunder import digest
from thunder.errors import GateError, Interrupted, RunFailed, ThunderError, UsageError, combined_error
from thunder.rental import rental_offers
from thunder.rental.rental_ledger import RentalLedger
from thunder.rental.rental_offers import (
    ENDED_PREFIX,
    HEARTBEAT_PREFIX,
    PAYLOAD_FOLDER,
    RUNS_FOLDER,
    START_FILE,
    TRIAL_FILE,
    RentalOrder,
)
from thunder.rental.vastai import Instance, RentalError, VastClient
from thunder.units import Seconds

MAX_TRIES = 4
START_TIMEOUT = Seconds(1800)  # until a machine has started
STALL_TIMEOUT = Seconds(900)  # without a new log line
VerifyRun = Callable[[Path], list[str]]
PrintLine = Callable[[str], None]
AnswerType = TypeVar("AnswerType")


@dataclass
class RentalSession:
    """Access to the rental service and the waiting times. verify: local copy of a run -> its faults. root: folder of
    runs.
    """

    vast: VastClient
    ledger: RentalLedger
    root: Path
    verify: VerifyRun
    print_line: PrintLine = lambda text: None
    sleep: Callable[[float], None] = time.sleep
    poll: float = 30.0
    clock: Callable[[], float] = field(default=time.time)

    def retry(self, what: Callable[[], AnswerType]) -> AnswerType:
        """Call the service; retry with growing delays if it does not answer."""
        for attempt in range(MAX_TRIES):
            try:
                return what()
            except RentalError:
                if attempt == MAX_TRIES - 1:
                    raise
                self.sleep(2.0**attempt * 5)
        raise AssertionError("the last try raises")

    def find_instance(self, label: str) -> Instance | None:
        """Return the machine with a label; None if there is none."""
        return next((one for one in self.retry(self.vast.instances) if one.label == label), None)


def new_rental_label(run: str) -> str:
    """Return a unique label, by which a machine is found even if the service never returned its number."""
    return f"thunder.{run}.{secrets.token_hex(4)}"


def launch_rental(
    lane: RentalSession, order: RentalOrder, gates: dict[str, str], query: str, scratch: Path, yes: bool = False
) -> int | None:
    """Rent a machine, test an upload, copy the payload there, start the run; returns the machine's number.

    gates: conditions that must hold first, name -> why it does not hold. Without `yes` nothing is rented and None is
    returned. Raises GateError if a gate is closed or the cost exceeds the cap; every fault after the order releases the
    machine.
    """
    if closed := rental_offers.closed_gates(gates):
        raise combined_error(GateError, f"{order.run}: cannot be launched:", closed, fix="fix these first")
    if other := [label for label, one in lane.ledger.open_rentals().items() if one.get("run") == order.run]:
        raise UsageError(f"{order.run} has a rented machine already: {other[0]}", fix=f"thunder gpu watch {order.run}")
    spent = lane.ledger.spent_usd()
    offer = rental_offers.choose_offer(lane.retry(lambda: lane.vast.offers(query)), order, spent)
    lane.print_line(
        f"{order.run}: offer {offer.id}, {offer.gpu}, {offer.usd_per_hour:.3f} USD/h, at most "
        f"{offer.usd_per_hour * order.hours:.2f} USD in {order.hours:g} h; {spent:.2f} of {order.cap_usd:.2f} spent"
    )
    if not yes:
        lane.print_line("nothing was rented: add --yes to rent")
        return None
    known = {"run": order.run, "usd_per_hour": offer.usd_per_hour, "hours": order.hours, "cap_usd": order.cap_usd}
    lane.ledger.note("ordered", order.label, **known)
    try:
        script = rental_offers.onstart_script(order)
        number = lane.vast.create(offer.id, order.image, order.disk_gb, order.label, script)
        lane.ledger.note("created", order.label, id=number)
        _wait_until_up(lane, number, order.label)
        _test_upload(lane, number, scratch)
        for path in order.payload:
            lane.retry(lambda path=path: lane.vast.upload(Path(path), number, f"{PAYLOAD_FOLDER}/{Path(path).name}"))
        go = scratch / "GO"
        go.write_text(order.run + "\n")
        lane.retry(lambda: lane.vast.upload(go, number, START_FILE))
        lane.ledger.note("started", order.label)
    except BaseException:
        lane.print_line(f"{order.run}: not started; the machine is released")
        release_machine(lane, order.label)
        raise
    return number


def _wait_until_up(lane: RentalSession, number: int, label: str) -> None:
    until = lane.clock() + START_TIMEOUT
    while True:
        machine = lane.find_instance(label)
        if machine is None or not machine.is_running:
            raise RentalError(f"machine {number} is {machine.status if machine else 'gone'} before it was up")
        if machine.status == "running":
            return
        if lane.clock() > until:
            raise RentalError(f"machine {number} is {machine.status} after {START_TIMEOUT:.0f} s")
        lane.sleep(lane.poll)


def _test_upload(lane: RentalSession, number: int, scratch: Path) -> None:
    """Copy a small file there and back, to find a machine with broken copies before it costs anything."""
    there, back = scratch / "trial", scratch / "trial-back"
    there.write_bytes(secrets.token_bytes(4096))
    lane.retry(lambda: lane.vast.upload(there, number, TRIAL_FILE))
    lane.retry(lambda: lane.vast.download(number, TRIAL_FILE, back))
    if not back.is_file() or digest.sha256_file(back) != digest.sha256_file(there):
        raise RentalError(f"machine {number}: a trial upload came back changed")


def follow_rental(lane: RentalSession, run: str) -> str:
    """Watch a run to its end, copy it, verify the copy, release the machine; returns how the run ended.

    Raises RunFailed if the run failed and its copy is incomplete, GateError if only the copy is incomplete; the machine
    is then stopped, not released. Raises Interrupted if the user stops watching.
    """
    label, rental = _open_rental(lane, run)
    try:
        why = _watch_rental(lane, label, rental)
        lane.print_line(f"{run}: {why}")
        faults = _copy_and_verify(lane, label, run)
    except KeyboardInterrupt:
        text = f"{run} continues, and costs {rental['usd_per_hour']:.3f} USD an hour"
        raise Interrupted(text, fix=f"thunder gpu watch {run}") from None
    except BaseException:
        _stop_machine(lane, label, rental)
        raise
    if not faults:
        release_machine(lane, label)
        return why
    _stop_machine(lane, label, rental)
    if why != "ended":
        raise combined_error(RunFailed, f"{run}: {why}; its copy:", faults, fix=_recovery_hint(run), shown=5)
    raise combined_error(
        GateError, f"{run}: ended, but its copy is incomplete:", faults, fix=_recovery_hint(run), shown=5
    )


def _recovery_hint(run: str) -> str:
    return f"thunder gpu sync {run}; or thunder gpu destroy {run} --force, which gives up the files on the machine"


def _open_rental(lane: RentalSession, run: str) -> tuple[str, dict[str, Any]]:
    matches = [(label, one) for label, one in lane.ledger.open_rentals().items() if run in (one.get("run"), label)]
    if not matches:
        raise UsageError(f"nothing is rented for {run!r}", fix="thunder gpu watch, without a name, lists all")
    return matches[-1]


def _watch_rental(lane: RentalSession, label: str, rental: dict[str, Any]) -> str:
    """Return why waiting is over: 'ended', or what went wrong."""
    last, since = "", lane.clock()
    while True:
        try:
            machine = next((one for one in lane.vast.instances() if one.label == label), None)
            if machine is None:
                return "the machine is gone"
            text = lane.vast.logs(machine.id) if machine.status == "running" else ""
        except RentalError as error:  # do not stop a run because the service does not answer for a while
            lane.print_line(f"{label}: {error.message}")
        else:
            lines = [line for line in text.splitlines() if line.startswith("thunder: ")]
            if why := _end_reason(machine, lines):
                return why
            if lines and lines[-1] != last:
                last, since = lines[-1], lane.clock()
                lane.print_line(last)
        if lane.clock() - since > STALL_TIMEOUT:
            return f"no sign of life for {STALL_TIMEOUT:.0f} s"
        if lane.clock() - rental["ordered"] > rental["hours"] * 3600:
            return f"its {rental['hours']:g} hours are over"
        if lane.ledger.spent_usd() > rental["cap_usd"]:
            return f"{lane.ledger.spent_usd():.2f} USD are spent, the cap is {rental['cap_usd']:.2f}"
        lane.sleep(lane.poll)


def _end_reason(machine: Instance, lines: list[str]) -> str:
    """Return why a run is over, by its machine's log; empty if it goes on."""
    ended = next((line for line in lines if line.startswith(ENDED_PREFIX)), None)
    if ended:
        code = ended.removeprefix(ENDED_PREFIX).strip()
        return "ended" if code == "0" else f"the run ended with exit code {code}"
    if any(has_nonfinite_loss(line) for line in lines[-3:]):
        return "a loss is not a number"
    return "" if machine.is_running else f"the machine is {machine.status}"


def has_nonfinite_loss(line: str) -> bool:
    """Whether a heartbeat line reports a loss that is NaN or infinite."""
    return line.startswith(HEARTBEAT_PREFIX) and any(
        f'loss": {word}' in line for word in ("NaN", "Infinity", "-Infinity", "nan")
    )


def sync_rental(lane: RentalSession, run: str) -> list[str]:
    """Copy a run from its machine and verify the copy; returns its faults, none if it is complete."""
    return _copy_and_verify(lane, _open_rental(lane, run)[0], run)


def _copy_and_verify(lane: RentalSession, label: str, run: str) -> list[str]:
    try:
        machine = lane.find_instance(label)
        if machine is None:
            return ["the machine to copy from is gone"]
        lane.retry(lambda: lane.vast.download(machine.id, f"{RUNS_FOLDER}/{run}", lane.root))
    except ThunderError as error:
        return [f"not copied: {error.message}"]
    if not (lane.root / run).is_dir():
        return ["nothing was copied"]
    try:
        faults = lane.verify(lane.root / run)
    except ThunderError as error:
        return [error.message]
    if not faults:
        lane.ledger.note("synced", label)
    return faults


def destroy_rental(lane: RentalSession, run: str, force: bool = False) -> None:
    """Release the machine of a run.

    Raises GateError if the run has started and no complete copy of it is here, unless `force` gives it up.
    """
    label, rental = _open_rental(lane, run)
    name = str(rental.get("run", run))
    if "started" in rental and not force and lane.find_instance(label) is not None:
        folder = lane.root / name
        faults = lane.verify(folder) if folder.is_dir() else ["no copy of it is here"]
        if faults:
            headline = f"{name}: not released, its copy here is incomplete:"
            raise combined_error(GateError, headline, faults, _recovery_hint(name), shown=5)
    release_machine(lane, label)


def release_machine(lane: RentalSession, label: str) -> None:
    """Destroy every machine with a label, and check twice that none is left. Raises RentalError if one is left."""
    empty = 0
    number = lane.ledger.rentals().get(label, {}).get("id")
    if number is not None:  # by number first: the list of machines may be unavailable
        lane.retry(lambda: lane.vast.destroy(number))
    for _ in range(2 * MAX_TRIES):
        there = [one for one in lane.retry(lane.vast.instances) if one.label == label]
        # a machine whose order returned an error may appear in the list late
        empty = 0 if there else empty + 1
        if empty == 2:
            lane.ledger.note("destroyed", label)
            return
        for one in there:
            lane.retry(lambda one=one: lane.vast.destroy(one.id))
        lane.sleep(5)
    raise RentalError(
        f"{label}: still there after {2 * MAX_TRIES} tries", fix="thunder gpu destroy; or the service's page"
    )


def _stop_machine(lane: RentalSession, label: str, rental: dict[str, Any]) -> None:
    """Stop a machine that may hold the only copy of a run; its disk costs money until it is released."""
    number = rental["id"]
    try:
        lane.retry(lambda: lane.vast.stop(number))
    except RentalError:
        if lane.find_instance(label) is None:
            return release_machine(lane, label)
        raise
    lane.ledger.note("stopped", label)
    lane.print_line(f"{label}: stopped; its disk costs money until the machine is released")
