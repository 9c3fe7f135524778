"""Nothing that was answered with 200 is lost: kill -9, upstream away, one destination down."""

import random
import signal
from pathlib import Path

import pytest

from mockcollector.server import MockCollector
from tests.load import Load, request_of, span_ids
from tests.relay_process import Relay, eventually

KILLS = 10


ROOT = Path(__file__).parents[2]
# The relay on a disk that forgets, when it is killed, whatever was not synced.
FORGETFUL = """
import functools, sys
from relay import daemon
from relay.buffer import schema
from relay.cli import main
from tests import forgetful_vfs

vfs = forgetful_vfs.ForgetfulVFS()
daemon.Buffer = functools.partial(daemon.Buffer, vfs=forgetful_vfs.NAME)
if {is_sync_off}:
    schema.SYNCHRONOUS["full"] = 0
main()
"""


def arrived(upstream: MockCollector) -> set[str]:
    return {span.span_id for span in upstream.journal.spans()}


@pytest.mark.timeout(180)
def test_every_acknowledged_span_arrives_when_the_relay_is_killed_ten_times_under_load(
    tmp_path: Path,
) -> None:
    rng = random.Random(4318)
    with MockCollector() as upstream:
        relay = Relay(tmp_path, {"mock": {"endpoint": upstream.endpoint}})
        with relay:
            with Load(relay.ingest_port) as load:
                for _ in range(KILLS):
                    load.wait_for_more(rng.randrange(5, 200))
                    relay.kill()
                    relay.start()
                load.wait_for_more(20)
            eventually(
                lambda: load.acknowledged <= arrived(upstream), what="every acknowledged span"
            )

    assert len(load.acknowledged) >= KILLS * 5
    assert set(load.statuses) == {200}


def test_spans_kept_while_upstream_is_away_arrive_once_it_is_back(tmp_path: Path) -> None:
    upstream = MockCollector()
    with upstream:
        endpoint = upstream.endpoint
    ids = span_ids(50)
    with Relay(tmp_path, {"mock": {"endpoint": endpoint}}) as relay:
        for first in range(0, 50, 10):
            assert relay.post(request_of(ids[first : first + 10]))[0] == 200
        eventually(lambda: relay.destination("mock")["state"] == "waiting", what="waiting")
        relay.kill()
        relay.start()
        assert relay.destination("mock")["waiting_spans"] == 50
        with upstream:
            eventually(lambda: set(ids) <= arrived(upstream), seconds=45, what="all spans")
            eventually(lambda: relay.destination("mock")["waiting_spans"] == 0)


def test_destination_that_is_down_does_not_slow_the_other(tmp_path: Path) -> None:
    with MockCollector() as good, MockCollector(script="hang*") as hanging:
        destinations = {
            "good": {"endpoint": good.endpoint},
            "hanging": {"endpoint": hanging.endpoint},
            "refused": {"endpoint": "http://127.0.0.1:1/v1/traces"},
        }
        with Relay(tmp_path, destinations) as relay:
            ids = span_ids(200)
            for first in range(0, 200, 10):
                assert relay.post(request_of(ids[first : first + 10]))[0] == 200
            good.journal.wait_for_spans(200, timeout=10)

            assert arrived(good) == set(ids)
            assert relay.destination("hanging")["waiting_spans"] == 200
            assert relay.destination("refused")["waiting_spans"] == 200


def lost_on_a_forgetful_disk(tmp_path: Path, *, kills: int, is_sync_off: bool) -> set[str]:
    """Span ids that were answered 200 and never arrived; upstream is away until the last kill."""
    script = tmp_path / "forgetful.py"
    script.write_text(FORGETFUL.format(is_sync_off=is_sync_off))
    upstream = MockCollector()
    with upstream:
        endpoint = upstream.endpoint
    relay = Relay(
        tmp_path,
        {"mock": {"endpoint": endpoint}},
        command=(str(script),),
        environ={"PYTHONPATH": str(ROOT)},
    )
    with relay:
        with Load(relay.ingest_port, spans=2) as load:
            for _ in range(kills):
                load.wait_for_more(60)
                relay.kill()
                relay.start()
        with upstream:
            relay.signal(signal.SIGHUP)  # do not wait for the backoff to end
            eventually(lambda: relay.destination("mock")["waiting_spans"] == 0, seconds=40)
            return load.acknowledged - arrived(upstream)


@pytest.mark.timeout(180)
def test_nothing_acknowledged_is_lost_when_the_disk_forgets_what_was_not_synced(
    tmp_path: Path,
) -> None:
    assert lost_on_a_forgetful_disk(tmp_path, kills=10, is_sync_off=False) == set()


def test_forgetful_disk_shows_the_loss_when_sync_is_off(tmp_path: Path) -> None:
    """The test above means something only because this one loses."""
    assert lost_on_a_forgetful_disk(tmp_path, kills=1, is_sync_off=True)
