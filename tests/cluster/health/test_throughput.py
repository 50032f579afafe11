import time

import pytest

from thunder.cluster.health import throughput
from thunder.cluster.health.host_report import Throughput
from thunder.cluster.inventory.cluster_file import Host


class FakeEnd:
    """A host that answers as told, and notes when it was busy."""

    def __init__(self, name, busy, reached=True):
        self.host = Host(name=name, ssh=name, ips=[f"10.0.5.{name[-1]}"])
        self.busy, self.reached, self.log = busy, reached, []

    def reaches(self, peer, address):
        return self.reached

    def ask(self, question, arguments):
        self.log.append((question, arguments.get("ip") or arguments["peer"], arguments["token"]))
        assert all(20000 <= port < 32768 for port in arguments["ports"])
        self.busy[self.host.name] = self.busy.get(self.host.name, 0) + 1
        assert self.busy[self.host.name] == 1, "one measurement at a time"
        time.sleep(0.02)
        self.busy[self.host.name] -= 1
        return Throughput(5e8, None) if question == "receive" else Throughput(None, None)


def test_every_way_is_measured_and_no_host_is_in_two_at_once():
    busy = {}
    ends = [FakeEnd(f"m{number}", busy) for number in range(1, 5)]
    found = {way: future.result(10) for way, future in throughput.start_throughput(ends).items()}
    assert set(found) == {(a.host.name, b.host.name, b.host.ips[0]) for a in ends for b in ends if a is not b}
    assert set(found.values()) == {Throughput(5e8, None)}
    words = [word for end in ends for *_, word in end.log]
    assert all(words.count(word) == 2 for word in words), "each word is known to one pair of ends"


def test_a_way_that_does_not_answer_is_left_out():
    ends = [FakeEnd("m1", {}), FakeEnd("m2", {}, reached=False)]
    found = {way[:2]: future.result(5) for way, future in throughput.start_throughput(ends).items()}
    assert found == {("m1", "m2"): Throughput(5e8, None), ("m2", "m1"): None}


def test_ranks_on_one_machine_have_no_cable():
    ends = [FakeEnd("m1", {}), FakeEnd("x1", {})]
    assert throughput.start_throughput(ends) == {}


@pytest.mark.parametrize("question", ["send", "receive"])
def test_an_end_that_does_not_answer(question):
    class Silent(FakeEnd):
        def ask(self, asked, arguments):
            if asked == question:
                raise throughput.NoAnswer("frozen")
            return super().ask(asked, arguments)

    ends = [Silent("m1", {}), Silent("m2", {})]
    assert {future.result(5) for future in throughput.start_throughput(ends).values()} == {Throughput(None, "frozen")}
