"""`encoding = auto` against vendors that take protobuf only: what arrives, and what is shown."""

import contextlib
import json
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from mockcollector import profiles
from mockcollector.server import MockCollector
from relay.config import DestinationConfig
from relay.deliver.courier import Courier
from relay.model.records import DestinationState
from relay.upstream.exchange import Upstream
from tests.integration.test_deliver import Backlog, span_row
from tests.support.relay_process import Relay, eventually

# The vendor, and how it refuses JSON.
PROTOBUF_ONLY = [("phoenix", 415), ("mlflow", 400)]


def request(number: int) -> dict[str, Any]:
    span = {"traceId": f"{number:032x}", "spanId": f"{number:016x}", "name": f"span-{number}"}
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}


def answers(collector: MockCollector) -> list[tuple[str, int]]:
    """Encoding and status of every request, in order."""
    return [(str(r.encoding), r.status or 0) for r in collector.journal.requests()]


def configuration(
    collector: MockCollector, headers: Mapping[str, str], **more: Any
) -> dict[str, dict[str, Any]]:
    return {"vendor": {"endpoint": collector.endpoint, "headers": headers, **more}}


@contextlib.asynccontextmanager
async def delivering(
    collector: MockCollector, backlog: Backlog, headers: Mapping[str, str], **changes: Any
) -> AsyncIterator[Courier]:
    settings = DestinationConfig(name="mock", endpoint=collector.endpoint, **changes)
    courier = Courier(
        settings, backlog, Upstream(settings), lambda _: dict(headers), pace_seconds=0
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(courier.run)
        yield courier
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.parametrize(("vendor", "status"), PROTOBUF_ONLY)
async def test_spans_in_json_arrive_as_protobuf_where_json_is_refused(
    vendor: str, status: int
) -> None:
    with MockCollector(profile=vendor) as collector:
        backlog = Backlog(owed=[span_row(1, 2)])
        async with delivering(collector, backlog, collector.headers) as courier:
            await backlog.until(lambda: backlog.settled == [1])
            backlog.add(span_row(2))
            await backlog.until(lambda: backlog.settled == [1, 2])
            warnings = courier.status.warnings

        assert answers(collector) == [("json", status), ("protobuf", 200), ("protobuf", 200)]
        assert sorted(s.name for s in collector.journal.spans()) == ["span-1", "span-1", "span-2"]
        assert warnings == [f"refuses JSON ({status}): sent as protobuf"]
        assert courier.status.delivered_items == 3


@pytest.mark.anyio
async def test_wrong_token_is_named_where_json_was_refused_first() -> None:
    """An upstream that looks at the content type before it looks at the token."""
    with MockCollector(script="415,401:wrong token*") as collector:
        backlog = Backlog(owed=[span_row(1)])
        async with delivering(collector, backlog, {"Authorization": "Bearer x"}) as courier:
            await backlog.until(lambda: backlog.given_back == 1)
            await anyio.wait_all_tasks_blocked()

            assert courier.status.state is DestinationState.BLOCKED
            assert "answered 401" in courier.status.reason
            assert "check the header Authorization" in courier.status.reason


@pytest.mark.anyio
async def test_refusal_of_the_spans_themselves_is_shown_as_it_was_said_first() -> None:
    with MockCollector(profile="tempo", script="400:no such thing*") as collector:
        backlog = Backlog(owed=[span_row(1)])
        async with delivering(collector, backlog, {}) as courier:
            await backlog.until(lambda: backlog.given_back == 1)
            await anyio.wait_all_tasks_blocked()

            assert answers(collector) == [("json", 400), ("protobuf", 400)]
            assert "no such thing" in courier.status.reason
            assert "the other encoding is refused too (400)" in courier.status.reason
            assert courier.status.warnings == []


@pytest.mark.anyio
async def test_set_encoding_is_kept_to_where_it_is_refused() -> None:
    with MockCollector(profile="phoenix") as collector:
        backlog = Backlog(owed=[span_row(1)])
        async with delivering(collector, backlog, collector.headers, encoding="json") as courier:
            await backlog.until(lambda: backlog.given_back == 1)
            await anyio.wait_all_tasks_blocked()

            assert courier.status.state is DestinationState.BLOCKED
            assert 'set encoding = "protobuf", then reload' in courier.status.reason
            assert len(collector.journal.requests()) == 1


@pytest.mark.parametrize(("vendor", "status"), PROTOBUF_ONLY)
def test_relay_delivers_json_to_a_vendor_of_protobuf_and_says_so(
    tmp_path: Path, vendor: str, status: int
) -> None:
    with MockCollector(profile=vendor) as collector:
        with Relay(tmp_path, configuration(collector, collector.headers)) as relay:
            for number in (1, 2):
                assert relay.post(request(number))[0] == 200
                collector.journal.wait_for_spans(number)

            assert answers(collector) == [
                ("json", status),
                ("protobuf", 200),
                ("protobuf", 200),
            ]
            note = f"refuses JSON ({status}): sent as protobuf"
            eventually(lambda: note in relay.destination("vendor")["warnings"], what="the note")
            assert note in relay.run("status").stdout
            assert relay.log().count("encoding_changed") == 1


def test_relay_learns_anew_after_a_reload(tmp_path: Path) -> None:
    with MockCollector(profile="phoenix") as refusing, MockCollector() as taking:
        with Relay(tmp_path, configuration(refusing, refusing.headers)) as relay:
            assert relay.post(request(1))[0] == 200
            refusing.journal.wait_for_spans(1)

            relay.write_config(configuration(taking, {}))
            relay.signal(signal.SIGHUP)
            eventually(
                lambda: str(taking.port) in relay.destination("vendor")["endpoint"], what="reload"
            )
            assert relay.destination("vendor")["warnings"] == []
            assert relay.post(request(2))[0] == 200
            taking.journal.wait_for_spans(1)

        assert answers(taking) == [("json", 200)]


def test_relay_is_blocked_by_a_wrong_token_and_not_by_the_encoding(tmp_path: Path) -> None:
    with MockCollector(profile=profiles.build("phoenix", "right")) as collector:
        wrong = configuration(collector, {"Authorization": "Bearer wrong"})
        with Relay(tmp_path, wrong) as relay:
            assert relay.post(request(1))[0] == 200
            eventually(lambda: relay.destination("vendor")["state"] == "blocked", what="blocked")

            assert "Invalid token" in json.dumps(relay.destination("vendor"))
            assert collector.journal.counts.spans_accepted == 0
