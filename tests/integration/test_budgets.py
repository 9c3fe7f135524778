"""Small budgets, real processes: who loses what, and that one that is dead stops nobody else."""

import time
from pathlib import Path
from typing import Any

import pytest

from mockcollector.server import MockCollector
from tests.support.load import Load, arrived, request_of, span_ids
from tests.support.relay_process import Relay, eventually

pytestmark = pytest.mark.proofs
MIB = 1 << 20


def settings(when_full: str = "refuse") -> str:
    return (
        f'[buffer]\nmax_size = "4MiB"\nmin_free = "0B"\nkeep_delivered = "0s"\n'
        f'when_full = "{when_full}"\n'
    )


def body(ids: list[str]) -> bytes:
    """A request of 20 kB that is 10 kB on disk, like no other."""
    return request_of(ids, padding="".join(span_ids(1250)))


def pour(relay: Relay, size: int, *, healthy: MockCollector) -> tuple[set[str], int]:
    """Post until so many bytes were acknowledged or a 503 stays; the ids, and how many 503s."""
    kept: set[str] = set()
    sent, refusals, in_a_row = 0, 0, 0

    def has_all() -> bool:
        return kept <= arrived(healthy)

    while sent < size and in_a_row < 20:
        ids = span_ids(1)
        request = body(ids)
        if relay.post(request)[0] == 200:
            kept |= set(ids)
            sent, in_a_row = sent + len(request), 0
            if len(kept) % 50 == 0:
                eventually(has_all, what="the healthy one to have all")
        else:
            refusals, in_a_row = refusals + 1, in_a_row + 1
            time.sleep(0.1)  # as a sender does that comes again
    return kept, refusals


def both(good: MockCollector, dead: MockCollector, hold: str) -> dict[str, dict[str, Any]]:
    return {
        "good": {"endpoint": good.endpoint},
        "dead": {"endpoint": dead.endpoint, "hold": hold},
    }


def is_blocked(relay: Relay, name: str = "dead") -> bool:
    return bool(relay.destination(name)["state"] == "blocked")


@pytest.mark.timeout(180)
def test_destination_that_expired_stops_no_healthy_one(tmp_path: Path) -> None:
    with MockCollector() as good, MockCollector(script="401*") as dead:
        with Relay(tmp_path, both(good, dead, "1s"), settings=settings()) as relay:
            assert relay.post(body(span_ids(1)))[0] == 200
            eventually(lambda: is_blocked(relay), what="the 401")
            kept, _refusals = pour(relay, 24 * MIB, healthy=good)
            eventually(lambda: kept <= arrived(good), what="everything at the healthy one")

            status = relay.status()
            evicted = status["buffer"]["evicted_spans"]
            assert set(evicted) == {"dead"}
            assert evicted["dead"] > len(kept) / 2
            assert relay.destination("dead")["evicted_spans"] == evicted["dead"]
            eventually(
                lambda: (
                    relay.destination("dead")["waiting_spans"] == len(kept) + 1 - evicted["dead"]
                ),
                what="what waits and what went to add up",
            )
            assert status["buffer"]["bytes_on_disk"] <= 4 * MIB
            shown = relay.run("status").stdout
            assert f"{evicted['dead']:,} undelivered spans for dead evicted for space" in shown
            metrics = relay.get("/metrics", parse=False)[1]
            assert (
                f'otlp_relay_evicted_spans_total{{destination="dead",signal="traces"}} '
                f"{evicted['dead']}" in (metrics.replace(".0\n", "\n"))
            )
            assert 1 <= relay.log().count("spans_evicted") <= 5

            # What is left comes once the token is right, the newest of all; and counts stay.
            waiting = relay.destination("dead")["waiting_spans"]
            dead.script.replace("ok*")
            relay.kill()
            relay.start()
            eventually(lambda: len(arrived(dead)) >= waiting, what="the rest at the other")
            assert relay.status()["buffer"]["evicted_spans"]["dead"] == evicted["dead"]


def test_destination_that_is_held_for_ever_makes_it_refuse(tmp_path: Path) -> None:
    with MockCollector() as good, MockCollector(script="401*") as dead:
        with Relay(tmp_path, both(good, dead, "forever"), settings=settings()) as relay:
            kept, refusals = pour(relay, 24 * MIB, healthy=good)
            assert refusals >= 20
            eventually(lambda: kept <= arrived(good), what="everything at the healthy one")
            assert relay.destination("dead")["waiting_spans"] == len(kept)
            assert relay.status()["buffer"]["evicted_spans"] == {}
            code, reason = relay.get("/readyz", parse=False)
            assert code == 503
            assert "max_size (4MiB) is used up by what is still owed" in reason
            assert "FULL: max_size (4MiB)" in relay.run("status").stdout

            dead.script.replace("ok*")
            relay.signal(1)
            eventually(lambda: kept <= arrived(dead), what="everything at the other, too")
            eventually(lambda: relay.post(body(span_ids(1)))[0] == 200, what="to be taken again")


def test_drop_oldest_drops_for_who_fails_and_never_for_who_is_healthy(tmp_path: Path) -> None:
    with MockCollector() as good, MockCollector(script="401*") as dead:
        with Relay(tmp_path, both(good, dead, "24h"), settings=settings("drop-oldest")) as relay:
            assert relay.post(body(span_ids(1)))[0] == 200
            eventually(lambda: is_blocked(relay), what="the 401")
            kept, _refusals = pour(relay, 16 * MIB, healthy=good)
            eventually(lambda: kept <= arrived(good), what="everything at the healthy one")

            assert relay.status()["buffer"]["evicted_spans"]["dead"] > 0
            assert "good" not in relay.status()["buffer"]["evicted_spans"]


def test_load_at_the_limit_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    with MockCollector() as good, MockCollector(script="401*") as dead:
        with Relay(tmp_path, both(good, dead, "1s"), settings=settings()) as relay:
            with Load(relay.ingest_port, senders=4, items=50) as load:
                eventually(
                    lambda: relay.status()["buffer"]["evicted_spans"], seconds=60, what="evictions"
                )
                load.wait_for_more(1000)
                relay.kill()
                relay.start()
                load.wait_for_more(1000)
            eventually(lambda: load.acknowledged <= arrived(good), what="all acknowledged")

    assert set(load.statuses) <= {200, 503}
