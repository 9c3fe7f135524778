"""Jaeger and a Collector at once: what one of them does not get, the other is not kept from."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mockcollector.server import MockCollector
from tests.e2e.collector import Collector
from tests.e2e.collector_configs import to_port
from tests.e2e.jaeger import Jaeger, spans_of
from tests.e2e.sent import SPANS, post_trace
from tests.support.ports import free_port
from tests.support.relay_process import Relay, eventually

pytestmark = pytest.mark.e2e


class Two:
    """A relay with two destinations, each in a file of its own; how many spans each has."""

    def __init__(
        self,
        folder: Path,
        jaeger: Jaeger,
        collector: Collector,
        behind: MockCollector,
        command: tuple[str, ...],
    ) -> None:
        self.relay = Relay(folder, executable=command)
        self._folder = folder / "destinations.d"
        self._folder.mkdir()
        self._endpoints = {"jaeger": jaeger.endpoint, "collector": collector.endpoint}
        self._jaeger = jaeger
        self._behind = behind
        for name in self._endpoints:
            self.write(name)

    def write(self, name: str, *, paused: bool = False) -> None:
        """The destination's file, anew."""
        lines = [f'endpoint = "{self._endpoints[name]}"', *(["paused = true"] if paused else [])]
        (self._folder / f"{name}.toml").write_text("\n".join(lines) + "\n")

    def set_paused(self, name: str, *, paused: bool) -> None:
        """Write the destination's file and have it taken up."""
        self.write(name, paused=paused)
        self.relay.signal(signal.SIGHUP)
        eventually(lambda: (self.relay.destination(name)["state"] == "paused") is paused)

    def has(self, name: str, trace_id: str) -> int:
        """How many spans of the trace are there, each counted as often as it is there."""
        if name == "jaeger":
            trace = self._jaeger.find(trace_id)
            return 0 if trace is None else len(spans_of(trace))
        return len(self._behind.journal.by_trace(trace_id))

    def wait_for(self, name: str, trace_id: str) -> None:
        """Until the whole trace is there."""
        eventually(lambda: self.has(name, trace_id) >= SPANS, seconds=60, what=f"all at {name}")

    def wait_until_settled(self, name: str, spans: int) -> None:
        """Until the relay has delivered so many spans to it, and owes it none."""

        def is_settled() -> bool:
            told = self.relay.destination(name)
            return (told["waiting_spans"], told["delivered_spans"]) == (0, spans)

        eventually(is_settled, what=f"{spans} spans delivered to {name}")


@pytest.mark.parametrize(("paused", "open_one"), [("jaeger", "collector"), ("collector", "jaeger")])
def test_paused_destination_gets_everything_afterwards_and_the_other_at_once(
    tmp_path: Path,
    relay_command: tuple[str, ...],
    jaeger: Jaeger,
    collector: Callable[..., Collector],
    paused: str,
    open_one: str,
) -> None:
    with MockCollector() as behind:
        port = free_port()
        between = collector(to_port(behind.port, port), host_network=True, receiver_port=port)
        two = Two(tmp_path, jaeger, between, behind, relay_command)
        with two.relay as relay:
            first = post_trace(relay)
            for name in (paused, open_one):
                two.wait_for(name, first)
            two.wait_until_settled(paused, SPANS)
            two.set_paused(paused, paused=True)
            second, third = post_trace(relay), post_trace(relay)
            for trace_id in (second, third):
                two.wait_for(open_one, trace_id)

            assert [two.has(paused, trace_id) for trace_id in (second, third)] == [0, 0]
            told = relay.destination(paused)
            assert (told["waiting_spans"], told["delivered_spans"]) == (2 * SPANS, SPANS)
            assert "paused = true" in relay.run("status").stdout

            two.set_paused(paused, paused=False)
            for trace_id in (second, third):
                two.wait_for(paused, trace_id)

            for name in (paused, open_one):
                two.wait_until_settled(name, 3 * SPANS)
                assert [two.has(name, each) for each in (first, second, third)] == [SPANS] * 3


@pytest.mark.parametrize(("away", "open_one"), [("jaeger", "collector"), ("collector", "jaeger")])
def test_destination_that_is_away_does_not_hold_up_the_other(
    tmp_path: Path,
    relay_command: tuple[str, ...],
    durable_jaeger: Jaeger,
    collector: Callable[..., Collector],
    away: str,
    open_one: str,
) -> None:
    with MockCollector() as behind:
        port = free_port()
        between = collector(to_port(behind.port, port), host_network=True, receiver_port=port)
        two = Two(tmp_path, durable_jaeger, between, behind, relay_command)
        container = durable_jaeger if away == "jaeger" else between
        with two.relay as relay:
            container.stop()
            trace_id = post_trace(relay)
            two.wait_for(open_one, trace_id)
            told = eventually(
                lambda: (found := relay.destination(away))["state"] == "waiting" and found
            )
            assert (told["waiting_spans"], told["delivered_spans"]) == (SPANS, 0)
            container.start()
            two.wait_for(away, trace_id)

            two.wait_until_settled(away, SPANS)
            two.wait_until_settled(open_one, SPANS)
