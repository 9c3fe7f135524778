"""`encoding = auto`: an upstream that refuses one encoding is tried once in the other."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import anyio
import pytest
import structlog.testing

from relay.config import DestinationConfig
from relay.deliver.batches import Batch
from relay.deliver.courier import Courier
from relay.model.records import Encoding, Signal, StoredRow
from relay.otlp.transcode import to_protobuf
from relay.upstream.outcomes import Blocked, Delivered, Outcome, Wait
from tests.unit.deliver.test_courier import ScriptedUpstream, world

pytestmark = pytest.mark.anyio

Settings = Callable[..., DestinationConfig]
Row = Callable[..., StoredRow]
JSON, PROTOBUF = Encoding.JSON, Encoding.PROTOBUF
NOTE = "refuses JSON (415): sent as protobuf"
SPAN = (
    b'{"scopeSpans":[{"spans":[{"traceId":"0102030405060708090a0b0c0d0e0f10",'
    b'"spanId":"0102030405060708","name":"a"}]}]}'
)


def refused(status: int, words: str = "no JSON") -> Blocked:
    return Blocked(f"axiom answered {status}: “{words}”; do this", status)


@contextlib.asynccontextmanager
async def gated(
    settings: Settings, backlog: Any, *, held: Encoding = JSON
) -> AsyncIterator[tuple[Courier, list[Encoding], anyio.Event]]:
    """A courier whose upstream takes protobuf only; its first answer to `held` waits."""
    gate, sent = anyio.Event(), list[Encoding]()

    class ProtobufOnly(ScriptedUpstream):
        async def send(self, batch: Batch, headers: Mapping[str, str]) -> Outcome:
            sent.append(batch.encoding)
            if batch.encoding is held:
                await gate.wait()
            return refused(415) if batch.encoding is JSON else Delivered(200)

    courier = Courier(settings(), backlog, ProtobufOnly(), lambda _: {}, pace_seconds=0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(courier.run)
        await anyio.wait_all_tasks_blocked()
        yield courier, sent, gate
        tasks.cancel_scope.cancel()


def encodings(upstream: ScriptedUpstream) -> list[Encoding]:
    return [batch.encoding for batch in upstream.sent]


@pytest.mark.parametrize("status", [400, 415, 422])
async def test_courier_sends_in_the_other_encoding_at_once_and_remembers_it(
    settings: Settings, row: Row, backlog: Any, status: int
) -> None:
    backlog.add(row(1, SPAN))
    with structlog.testing.capture_logs() as logs:
        async with world(settings(), backlog, refused(status), Delivered(200)) as at:
            backlog.add(row(2, SPAN))
            await at.settle_down()

            assert encodings(at.upstream) == [JSON, PROTOBUF, PROTOBUF]
            assert at.upstream.sent[1].content == to_protobuf(SPAN, Signal.TRACES)
            assert (backlog.settled, backlog.in_flight, backlog.given_back) == ([1, 2], 0, 0)
            assert at.clock.sleeps == []
            assert at.courier.status.warnings == [f"refuses JSON ({status}): sent as protobuf"]
            assert (at.courier.status.requests, at.courier.status.delivered_items) == (3, 2)
            assert (at.courier.status.consecutive_failures, at.courier.status.reason) == (0, "")
    assert [entry["event"] for entry in logs].count("encoding_changed") == 1
    assert not [entry for entry in logs if entry["event"] == "destination_blocked"]


async def test_courier_remembers_for_each_encoding_that_came_in(
    settings: Settings, row: Row, backlog: Any
) -> None:
    """Upstreams that refuse protobuf are rare, and rows in JSON tell nothing of them."""
    backlog.add(row(1, SPAN))
    async with world(settings(), backlog, refused(415), Delivered(200)) as at:
        backlog.add(row(2, to_protobuf(SPAN, Signal.TRACES), encoding=PROTOBUF))
        await at.settle_down()
        at.upstream.script = [refused(415), Delivered(200)]
        backlog.add(row(3, to_protobuf(SPAN, Signal.TRACES), encoding=PROTOBUF))
        await at.settle_down()

        assert encodings(at.upstream) == [JSON, PROTOBUF, PROTOBUF, PROTOBUF, JSON]
        assert at.courier.status.warnings == [NOTE, "refuses protobuf (415): sent as JSON"]


async def test_courier_goes_back_when_what_it_learnt_is_refused_later(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1, SPAN))
    async with world(settings(), backlog, refused(415), Delivered(200)) as at:
        at.upstream.script = [refused(415), Delivered(200)]
        backlog.add(row(2, SPAN))
        await at.settle_down()

        assert encodings(at.upstream) == [JSON, PROTOBUF, PROTOBUF, JSON]
        assert backlog.settled == [1, 2]
        assert at.courier.status.warnings == []


async def test_courier_is_blocked_with_the_first_words_when_both_are_refused(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1, SPAN))
    script = (refused(400, "bad batch"), refused(422, "bad too"), Wait("away"))
    async with world(settings(), backlog, *script) as at:
        status = at.courier.status
        assert (at.state, status.last_status, status.consecutive_failures) == ("blocked", 400, 1)
        assert status.reason.startswith("axiom answered 400: “bad batch”")
        assert "the other encoding is refused too (422)" in status.reason
        assert (at.clock.sleeps, backlog.given_back, len(backlog.owed)) == ([5], 1, 1)
        assert status.warnings == []

        await at.clock.advance()
        assert encodings(at.upstream) == [JSON, PROTOBUF, JSON]


async def test_courier_names_the_obstacle_that_only_the_other_encoding_met(
    settings: Settings, row: Row, backlog: Any
) -> None:
    """The content type was looked at before the token."""
    backlog.add(row(1, SPAN))
    async with world(settings(), backlog, refused(415), Blocked("wrong token", 401)) as at:
        assert (at.state, at.courier.status.reason) == ("blocked", "wrong token")
        assert at.courier.status.last_status == 401


async def test_courier_waits_when_the_other_encoding_finds_the_upstream_busy(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1, SPAN))
    busy = Wait("busy", 7.0, 503)
    script = (refused(415), busy, refused(415), Delivered(200))
    async with world(settings(), backlog, *script) as at:
        assert (at.state, at.clock.sleeps, backlog.given_back) == ("waiting", [7], 1)
        assert at.courier.status.warnings == []
        await at.clock.advance()

        assert encodings(at.upstream) == [JSON, PROTOBUF, JSON, PROTOBUF]
        assert (backlog.settled, at.courier.status.warnings) == ([1], [NOTE])


@pytest.mark.parametrize("encoding", ["json", "protobuf"])
async def test_courier_tries_no_other_encoding_when_one_is_set(
    settings: Settings, row: Row, backlog: Any, encoding: str
) -> None:
    backlog.add(row(1, SPAN))
    async with world(settings(encoding=encoding), backlog, refused(415)) as at:
        assert (at.state, len(at.upstream.sent)) == ("blocked", 1)


@pytest.mark.parametrize(
    "outcome", [Blocked("no", 401), Blocked("no", 413), Blocked("no"), Wait("")]
)
async def test_courier_tries_no_other_encoding_for_another_answer(
    settings: Settings, row: Row, backlog: Any, outcome: Outcome
) -> None:
    backlog.add(row(1, SPAN))
    async with world(settings(), backlog, outcome) as at:
        assert len(at.upstream.sent) == 1


async def test_courier_forgets_what_it_learnt_with_a_reload_and_not_with_a_wake(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1, SPAN))
    async with world(settings(), backlog, refused(415), Delivered(200, 0, "deprecated")) as at:
        assert at.courier.status.warnings == [NOTE, "deprecated"]
        at.courier.wake()
        backlog.add(row(2, SPAN))
        await at.settle_down()
        assert encodings(at.upstream)[-1] is PROTOBUF

        at.courier.update(settings())
        assert at.courier.status.warnings == ["deprecated"]
        backlog.add(row(3, SPAN))
        await at.settle_down()
        assert encodings(at.upstream)[-1] is JSON


async def test_courier_that_is_paused_amid_the_refusal_sends_nothing_more(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1, SPAN))
    async with gated(settings, backlog) as (courier, sent, gate):
        courier.pause()
        gate.set()
        await anyio.wait_all_tasks_blocked()

        assert (courier.status.state, sent, len(backlog.owed)) == ("paused", [JSON], 1)


async def test_courier_teaches_no_new_settings_what_was_sent_by_the_old_ones(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1, SPAN))
    async with gated(settings, backlog, held=PROTOBUF) as (courier, sent, gate):
        courier.update(settings("http://127.0.0.1:2/v1/traces"))
        gate.set()
        await anyio.wait_all_tasks_blocked()
        assert (backlog.settled, courier.status.warnings) == ([1], [])

        backlog.add(row(2, SPAN))
        await anyio.wait_all_tasks_blocked()
        assert sent == [JSON, PROTOBUF, JSON, PROTOBUF]
        assert courier.status.warnings == [NOTE]


async def test_courier_sets_aside_the_form_that_was_taken_in_part(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1, SPAN))
    async with world(settings(), backlog, refused(415), Delivered(200, 1, "too long")):
        (letter,) = backlog.dead
        assert (letter.encoding, letter.body) == (PROTOBUF, to_protobuf(SPAN, Signal.TRACES))


async def test_courier_is_blocked_by_the_refusal_when_the_rows_cannot_be_transcoded(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1, b'{"nonsense":1}'))
    async with world(settings(), backlog, refused(415)) as at:
        assert (at.state, len(at.upstream.sent), len(backlog.owed)) == ("blocked", 1, 1)
        assert at.courier.status.reason.startswith("axiom answered 415: “no JSON”")
        assert "the other encoding is not possible either" in at.courier.status.reason


async def test_courier_stop_gives_back_what_hangs_in_the_other_encoding(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1, SPAN))
    async with world(settings(), backlog, refused(415), anyio.Event()) as at:
        assert encodings(at.upstream) == [JSON, PROTOBUF]
        with anyio.fail_after(5):
            await at.courier.stop(0.01)

        assert (backlog.in_flight, len(backlog.owed), backlog.settled) == (0, 1, [])


async def test_courier_paces_what_goes_in_the_other_encoding(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1, SPAN))
    script = (refused(415), Delivered(200))
    async with world(settings(), backlog, *script, pace_seconds=60) as at:
        backlog.add(row(2, SPAN), row(3, SPAN))
        await at.settle_down()
        assert len(at.upstream.sent) == 2
        await at.clock.advance()

        assert [batch.rows for batch in at.upstream.sent] == [1, 1, 2]
