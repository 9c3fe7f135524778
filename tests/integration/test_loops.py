"""Relays in a circle: the one where spans come round again refuses them, and that is told."""

from pathlib import Path

from mockcollector.server import MockCollector
from tests.support.builders import request, span
from tests.support.relay_process import Relay, eventually


def url(relay: Relay) -> dict[str, str]:
    return {"endpoint": f"http://127.0.0.1:{relay.ingest_port}/v1/traces"}


def relays(tmp_path: Path, count: int) -> list[Relay]:
    folders = [tmp_path / str(number) for number in range(count)]
    for folder in folders:
        folder.mkdir()
    return [Relay(folder) for folder in folders]


def test_relay_refuses_spans_that_come_back_by_way_of_two_others(tmp_path: Path) -> None:
    first, second, third = relays(tmp_path, 3)
    for relay, following in ((first, second), (second, third), (third, first)):
        relay.write_config({"following": url(following)})
    with first, second, third:
        assert first.post(request(span()))[0] == 200

        eventually(
            lambda: "508" in third.destination("following")["reason"],
            what="the last in the circle says that the first refuses",
        )
        assert "loop" in third.destination("following")["reason"]
        assert [relay.status()["ingest"]["kept_spans"] for relay in (first, second, third)] == [
            1,
            1,
            1,
        ]


def test_relay_remembers_after_a_restart_what_spans_came_through(tmp_path: Path) -> None:
    (relay,) = relays(tmp_path, 1)
    with MockCollector() as upstream:
        relay.write_config({"mock": {"endpoint": upstream.endpoint, "paused": True}})
        with relay:
            headers = {"otlp-relay-hops": "one, two"}
            assert relay.post(request(span()), headers=headers)[0] == 200
            relay.kill()
            relay.write_config({"mock": {"endpoint": upstream.endpoint}})
            relay.start()
            upstream.journal.wait_for_spans(1, timeout=20)

    (received,) = upstream.journal.requests()
    hops = (received.header("otlp-relay-hops") or "").split(",")
    assert hops[:2] == ["one", "two"]
    assert len(hops) == 3
