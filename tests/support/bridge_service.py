"""The HTTP service of the bridge in this process, for tests: start it, wait for its engine, and make rows for it."""

from __future__ import annotations

import time

from starlette.testclient import TestClient

from thunder.bridge.bridge_settings import ServeSettings
from thunder.bridge.decisions import ProposalDecider
from thunder.bridge.gate import gate_rules
from thunder.bridge.proof import keys
from thunder.bridge.proof.provenance import ProvenanceLog
from thunder.bridge.service.http_app import BridgeService
from thunder.bridge.service.worker import BridgeWorker
from thunder.evaluation.engines import IdentityEngine

BOOK = gate_rules.read_gate_rules()
TEXT, BETTER = "ߣߋߤߍߛߍ ߡߌ ߓ", "ߣߋߛߍߛߍ ߡߌ ߓ"


def started_services(tmp_path):
    """Start a service in this process; returns a client of it, with its log's path."""
    ended = []

    def start(make_engine=IdentityEngine, secret=None, ring=keys.DEV_RING, **options):
        settings = ServeSettings(engine=options.pop("engine", "identity"), **options)
        log = ProvenanceLog(tmp_path / "provenance.jsonl", ring)
        worker = BridgeWorker(
            make_engine,
            lambda engine: ProposalDecider(engine, BOOK, ring),
            log,
            queue=settings.queue,
            batch_size=settings.batch_size,
            linger=settings.linger_ms / 1000,
        )
        application = BridgeService(settings, worker, BOOK, secret).application()
        client = TestClient(application, base_url="http://127.0.0.1:9442", raise_server_exceptions=False)
        client.__enter__()
        client.worker, client.log = worker, log
        ended.append(lambda: (client.__exit__(None, None, None), worker.wait_until_drained(20), log.close()))
        return client

    yield start
    for end in ended:
        end()


def ready(client):
    until = time.monotonic() + 60
    while client.get("/health").json()["status"] == "loading":
        assert time.monotonic() < until
        time.sleep(0.01)
    return client


def row(feat_id="a", text=TEXT, **more):
    return {"feat_id": feat_id, "asr_text": text, "partition": "uncertain", **more}
