"""A destination that was taken out of the file: owed nothing new, and what it had is not hidden."""

import signal
from pathlib import Path

import pytest

from mockcollector.server import MockCollector
from tests.support.builders import request, span
from tests.support.ports import free_port
from tests.support.relay_process import Relay, eventually

DROP = "otlp-relay destination remove old --drop-waiting"


def post(relay: Relay, name: str) -> None:
    trace_id = name.encode().hex().ljust(32, "0")
    assert relay.post(request(span(name=name, traceId=trace_id)))[0] == 200


def reload(relay: Relay) -> None:
    before = relay.log().count('"reloaded"')
    relay.signal(signal.SIGHUP)
    eventually(lambda: relay.log().count('"reloaded"') > before)


def names(upstream: MockCollector) -> list[str]:
    return [each.name for each in upstream.journal.spans()]


@pytest.mark.parametrize("restarts", [False, True])
def test_what_it_had_waits_in_sight_and_what_comes_is_not_for_it(
    tmp_path: Path, restarts: bool
) -> None:
    gone = {"endpoint": f"http://127.0.0.1:{free_port()}/v1/traces"}
    with MockCollector() as upstream:
        up = {"endpoint": upstream.endpoint}
        with Relay(tmp_path, {"old": gone, "up": up}) as relay:
            post(relay, "first")
            upstream.journal.wait_for_spans(1)
            relay.write_config({"up": up})
            if restarts:
                relay.stop()
                relay.start()
            else:
                reload(relay)
            post(relay, "second")
            upstream.journal.wait_for_spans(2)

            (removed,) = relay.status()["removed"]
            assert (removed["name"], removed["waiting_spans"]) == ("old", 1)
            assert removed["oldest_waiting_seconds"] > 0
            shown = relay.run("status").stdout
            assert f"old: gone from the configuration, 1 span waiting: `{DROP}`" in shown
            metrics = relay.get("/metrics", parse=False)[1]
            line = 'otlp_relay_removed_waiting_spans{destination="old",signal="traces"} 1.0'
            assert line in metrics
            assert "removed_destination_waits" in relay.log()
            assert DROP in relay.log()

            assert relay.run("destination remove", "old", "--drop-waiting").returncode == 0
            assert relay.status()["removed"] == []


def test_with_keep_delivered_0_nothing_new_stays_for_one_that_is_gone(tmp_path: Path) -> None:
    with MockCollector() as upstream:
        up = {"endpoint": upstream.endpoint}
        settings = '[buffer]\nkeep_delivered = "0s"'
        with Relay(tmp_path, {"old": up, "up": up}, settings=settings) as relay:
            relay.write_config({"up": up})
            reload(relay)
            post(relay, "prompt")
            eventually(lambda: relay.status()["buffer"]["spans"] == 0)


def test_what_comes_while_nobody_gets_it_is_for_the_first_that_does(tmp_path: Path) -> None:
    """Whatever that one is called, and over a restart."""
    with MockCollector() as upstream:
        up = {"endpoint": upstream.endpoint}
        with Relay(tmp_path, {"old": up | {"paused": True}}) as relay:
            post(relay, "before")
            relay.write_config({})
            reload(relay)
            post(relay, "between")
            relay.kill()
            relay.start()
            post(relay, "after")
            assert [each["waiting_spans"] for each in relay.status()["removed"]] == [1]
            relay.write_config({"new": up})
            reload(relay)
            upstream.journal.wait_for_spans(2)
            post(relay, "now")
            upstream.journal.wait_for_spans(3)

            assert names(upstream) == ["between", "after", "now"]
            eventually(lambda: relay.owed("new") == 0)


def test_one_that_comes_back_has_what_waited_and_nothing_from_between(tmp_path: Path) -> None:
    with MockCollector() as upstream, MockCollector() as other:
        old, second = {"endpoint": upstream.endpoint}, {"endpoint": other.endpoint}
        with Relay(tmp_path, {"old": old | {"paused": True}, "second": second}) as relay:
            post(relay, "before")
            relay.write_config({"second": second})
            reload(relay)
            post(relay, "between")
            other.journal.wait_for_spans(2)
            relay.write_config({"old": old, "second": second})
            reload(relay)
            post(relay, "now")
            upstream.journal.wait_for_spans(2)

            assert names(upstream) == ["before", "now"]


def test_one_that_comes_back_with_nothing_waiting_may_say_where_it_begins(tmp_path: Path) -> None:
    with MockCollector() as upstream, MockCollector() as other:
        second = {"endpoint": other.endpoint}
        with Relay(tmp_path, {"second": second}) as relay:
            add = ("destination add", "old", "--endpoint", upstream.endpoint)
            assert relay.run(*add).returncode == 0
            post(relay, "first")
            upstream.journal.wait_for_spans(1)
            eventually(lambda: relay.owed("old") == 0)
            assert relay.run("destination remove", "old", "--keep-waiting").returncode == 0
            post(relay, "between")
            other.journal.wait_for_spans(2)
            assert relay.run(*add, "--from", "beginning").returncode == 0
            eventually(lambda: names(upstream) == ["first", "first", "between"])
