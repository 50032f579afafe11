"""Choose an offer for a run within its cost cap, and write the script that the rented machine runs. No side effects."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from thunder.config import Settings, option
from thunder.errors import GateError
from thunder.rental.vastai import Offer

REMOTE_ROOT = "/workspace"
PAYLOAD_FOLDER, RUNS_FOLDER, START_FILE, TRIAL_FILE = (
    f"{REMOTE_ROOT}/in",
    f"{REMOTE_ROOT}/runs",
    f"{REMOTE_ROOT}/in/GO",
    f"{REMOTE_ROOT}/in/trial",
)
HEARTBEAT_PREFIX, ENDED_PREFIX = "thunder: beat", "thunder: ended"
OFFER_PANEL, MONEY_PANEL = "The machine", "Money"


class RentalSettings(Settings):
    """Options of `thunder gpu`. Prices change, so money has no default."""

    gpu: str = option("A100", "Model of the GPU, as the service calls it.", panel=OFFER_PANEL)
    down_mbps: int = option(500, "Minimum download speed, Mbit/s.", panel=OFFER_PANEL, ge=0)
    disk_gb: int = option(500, "Minimum disk size, GB; the disk is rented too.", panel=OFFER_PANEL, ge=1)
    reliability: float = option(0.98, "Minimum reliability.", panel=OFFER_PANEL, ge=0, le=1)
    image: str = option("nvidia/cuda:12.8.1-cudnn-devel-ubuntu24.04", "Container image.", panel=OFFER_PANEL)
    upload: list[str] = option([], "Folders and files to upload besides the project.", panel=OFFER_PANEL)
    hours: float | None = option(
        None, "Maximum hours of a run (default: the matrix' estimate).", panel=MONEY_PANEL, gt=0
    )
    cap: float | None = option(
        None, "Maximum USD for all runs together (default: the matrix' budget).", panel=MONEY_PANEL, gt=0
    )


@dataclass(frozen=True)
class RentalOrder:
    """One run on one machine with one GPU. run: its folder's name; argv: its command there; payload: files that it
    needs.
    """

    run: str
    label: str
    argv: Sequence[str]
    hours: float
    cap_usd: float
    image: str
    disk_gb: int
    payload: Sequence[str] = ()


def offer_query(settings: RentalSettings) -> str:
    """Return the search query: one GPU, since a run has one rank there."""
    gpu = settings.gpu.replace(" ", "_")
    limits = f"inet_down>{settings.down_mbps} disk_space>{settings.disk_gb} reliability>{settings.reliability}"
    return f"gpu_name={gpu} num_gpus=1 {limits} rentable=true"


def choose_offer(offers: Sequence[Offer], order: RentalOrder, spent_usd: float) -> Offer:
    """Return the cheapest offer whose cost fits into the rest of the cap.

    Raises GateError if there is none.
    """
    single = [offer for offer in offers if offer.gpus == 1]
    if not single:
        raise GateError("no machine with one such GPU is offered", fix="other --gpu, --disk-gb or --reliability")
    best = min(single, key=lambda offer: offer.usd_per_hour)
    cost = best.usd_per_hour * order.hours
    if spent_usd + cost > order.cap_usd:
        price = f"{best.usd_per_hour:.3f} USD/h for {order.hours:g} h is {cost:.2f} USD"
        raise GateError(
            f"{order.run}: {price}, with {spent_usd:.2f} spent more than the cap of {order.cap_usd:.2f}",
            fix="fewer --hours, or a higher --cap",
        )
    return best


def onstart_script(order: RentalOrder) -> str:
    """Return the machine's start script: wait for the payload, run, print a heartbeat every 30 s, print the end.

    `timeout` ends the run even if nobody watches it any more.
    """
    folder = f"{RUNS_FOLDER}/{order.run}"
    command = f"THUNDER_RUNS={RUNS_FOLDER} timeout {int(order.hours * 3600)} {shlex.join(order.argv)}"
    last_metrics = f"$(tail -n 1 {folder}/metrics.jsonl 2>/dev/null)"
    heartbeat = f'while sleep 30; do echo "{HEARTBEAT_PREFIX} $(date +%s) {last_metrics}"; done'
    prepare = f"mkdir -p {PAYLOAD_FOLDER} {RUNS_FOLDER}; until [ -f {START_FILE} ]; do sleep 5; done"
    return (
        f"{prepare}; cd {PAYLOAD_FOLDER}/project; "
        f'({heartbeat}) & {command} > {RUNS_FOLDER}/job.out 2>&1; echo "{ENDED_PREFIX} $?"'
    )


def closed_gates(gates: dict[str, str]) -> list[str]:
    """Return the gates that block a launch with their reasons; an empty reason means open."""
    return [f"{name}: {why}" for name, why in gates.items() if why]
