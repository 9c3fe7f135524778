"""Couriers with real exchanges against the mock collector: what arrives, and what is kept."""

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from mockcollector.script import ok
from mockcollector.server import MockCollector
from relay.buffer.values import BacklogStatistics
from relay.config import DestinationConfig
from relay.deliver.courier import Courier
from relay.model.errors import SecretUnset
from relay.model.records import (
    BodyFlag,
    DeadLetter,
    DestinationState,
    Encoding,
    Health,
    OwedRange,
    Position,
    Signal,
    StoredRow,
    Taken,
)
from relay.otlp.transcode import TranscodeError
from relay.upstream.exchange import Upstream
from tests.support.ports import free_port

pytestmark = pytest.mark.anyio


def span_row(number: int, spans: int = 1) -> StoredRow:
    """A row of `spans` spans named `span-NUMBER`."""
    made = ",".join(
        f'{{"traceId":"{number:032x}","spanId":"{index:016x}","name":"span-{number}"}}'
        for index in range(1, spans + 1)
    )
    body = f'{{"scopeSpans":[{{"spans":[{made}]}}]}}'.encode()
    return StoredRow(number, number, Encoding.JSON, BodyFlag.NONE, spans, body)


@dataclasses.dataclass
class Backlog:
    """What is owed, in memory."""

    name: str = "mock"
    signal: Signal = Signal.TRACES
    look_ahead: None = None
    owed: list[StoredRow] = dataclasses.field(default_factory=list)
    settled: list[int] = dataclasses.field(default_factory=list)
    dead: list[DeadLetter] = dataclasses.field(default_factory=list)
    given_back: int = 0
    flying: tuple[StoredRow, ...] = ()
    changed: anyio.Event = dataclasses.field(default_factory=anyio.Event)

    def add(self, *rows: StoredRow) -> None:
        self.owed.extend(rows)
        self.tell()

    def tell(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()

    async def wait(self) -> None:
        while not self.owed:
            await self.changed.wait()

    async def take(
        self, *, max_bytes: int, max_items: int, one_encoding: bool = True
    ) -> Taken | None:
        rows, self.owed = tuple(self.owed), []
        self.flying = rows
        ranges = tuple(OwedRange(Position(r.row), Position(r.row + 1)) for r in rows)
        return Taken(rows, ranges) if rows else None

    @property
    def has_more(self) -> bool:
        return bool(self.owed)

    async def take_newest(self, encoding: Encoding | None = None) -> Taken | None:
        return None

    async def split(self, taken: Taken, spans: int) -> tuple[Taken, Taken]:
        raise TranscodeError("a row of this double cannot be cut")

    def settle(self, taken: Taken, *, status: int, at_ns: int) -> None:
        self.settle_with(taken, (), status=status, at_ns=at_ns)

    def settle_with(
        self, taken: Taken, dead: Sequence[DeadLetter], *, status: int, at_ns: int
    ) -> None:
        self.settled.extend(row.row for row in taken.rows)
        self.flying = ()
        self.dead.extend(dead)
        self.tell()

    def give_back(self, taken: Taken) -> None:
        self.owed = [*taken.rows, *self.owed]
        self.flying = ()
        self.given_back += 1
        self.tell()

    def park(self, taken: Taken, trace_ids: bytes) -> None:
        raise AssertionError("nothing here is one that others pass by")

    async def take_parked(self, place: Position) -> Taken | None:
        return None

    def unpark(self) -> None:
        pass

    is_paused: bool = False

    def attach(
        self, health: Callable[[], Health], on_pause: Callable[[bool], None] | None = None
    ) -> None:
        pass

    def close(self) -> None:
        pass

    def detach(self) -> None:
        pass

    def statistics(self) -> BacklogStatistics:
        """A courier that was refused asks whether more is owed; what is in flight is, too."""
        owed = sum(row.items for row in (*self.owed, *self.flying))
        return BacklogStatistics("mock", owed, 0, 0, 0, 0, is_paused=False)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for a change after which `is_so`; at most ten seconds."""
        with anyio.fail_after(10):
            while not is_so():
                await self.changed.wait()


class Pauses:
    """The clock of the courier: each pause is noted, and ends at once while `are_short`."""

    def __init__(self) -> None:
        self.are_short = True
        self.seconds: list[float] = []
        self.began = anyio.Event()

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.began.set()
        self.began = anyio.Event()
        if not self.are_short:
            await anyio.sleep_forever()
        await anyio.lowlevel.checkpoint()


@dataclasses.dataclass
class Destination:
    courier: Courier
    backlog: Backlog
    pauses: Pauses


def no_headers(_: DestinationConfig) -> dict[str, str]:
    return {}


@contextlib.asynccontextmanager
async def delivering(
    collector: MockCollector,
    resolve: Callable[[DestinationConfig], dict[str, str]] = no_headers,
    *rows: StoredRow,
    **changes: Any,
) -> AsyncIterator[Destination]:
    settings = DestinationConfig(name="mock", endpoint=collector.endpoint, **changes)
    backlog, pauses = Backlog(owed=list(rows)), Pauses()
    courier = Courier(
        settings, backlog, Upstream(settings), resolve, sleep=pauses.sleep, pace_seconds=0
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(courier.run)
        yield Destination(courier, backlog, pauses)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("encoding", ["auto", "json", "protobuf"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
async def test_spans_arrive_in_the_encoding_asked_for_with_their_auth(
    encoding: str, compression: str
) -> None:
    with MockCollector(required_headers={"Authorization": "Bearer x"}) as collector:
        async with delivering(
            collector,
            lambda _: {"Authorization": "Bearer x"},
            span_row(1, 2),
            span_row(2, 3),
            encoding=encoding,
            compression=compression,
        ) as at:
            spans = await collector.journal.wait_for_spans_async(5)
            await at.backlog.until(lambda: at.backlog.settled == [1, 2])

        assert sorted(span.name for span in spans) == ["span-1"] * 2 + ["span-2"] * 3
        (request,) = collector.journal.requests()
        media_type = "application/x-protobuf" if encoding == "protobuf" else "application/json"
        headers = dict(request.headers)
        assert headers["content-type"] == media_type
        assert headers.get("content-encoding", "none") == compression


async def test_spans_arrive_once_after_an_upstream_that_was_away() -> None:
    with MockCollector(script="503*2:retry-after=7,429,ok") as collector:
        async with delivering(collector, no_headers, span_row(1)) as at:
            await at.backlog.until(lambda: at.backlog.settled == [1])

        assert at.pauses.seconds[:2] == [7, 7]
        assert 0 <= at.pauses.seconds[2] <= 4
        assert len(collector.journal.spans()) == 1


async def test_spans_arrive_after_the_upstream_was_stopped_and_started_again() -> None:
    with MockCollector(port=free_port()) as collector:
        async with delivering(collector, no_headers, span_row(1)) as at:
            await at.backlog.until(lambda: at.backlog.settled == [1])
            collector.stop()
            at.pauses.are_short = False
            began = at.pauses.began
            at.backlog.add(span_row(2))
            with anyio.fail_after(10):
                await began.wait()
            assert at.courier.status.state is DestinationState.WAITING
            assert "refused the connection" in at.courier.status.reason

            collector.start()
            at.courier.wake()
            await at.backlog.until(lambda: at.backlog.settled == [1, 2])

        assert {span.name for span in collector.journal.spans()} >= {"span-2"}


async def test_destination_with_a_wrong_token_loses_nothing_and_delivers_once_it_is_mended(
    tmp_path: Path,
) -> None:
    token = tmp_path / "token"

    def resolve(_: DestinationConfig) -> dict[str, str]:
        if not token.exists():
            raise SecretUnset("secret ${file:token} is not set")
        return {"Authorization": token.read_text()}

    with MockCollector(required_headers={"Authorization": "Bearer right"}) as collector:
        async with delivering(collector, resolve, span_row(1)) as at:
            at.pauses.are_short = False
            await at.backlog.until(lambda: at.backlog.given_back == 1)
            assert "is not set" in at.courier.status.reason

            token.write_text("Bearer wrong-0123456789")
            at.courier.wake()
            await at.backlog.until(lambda: at.backlog.given_back == 2)
            await anyio.wait_all_tasks_blocked()
            assert at.courier.status.state is DestinationState.BLOCKED
            assert "check the header Authorization, then reload" in at.courier.status.reason
            assert "0123456789" not in at.courier.status.reason

            token.write_text("Bearer right")
            at.courier.wake()
            await at.backlog.until(lambda: at.backlog.settled == [1])

        assert len(collector.journal.spans()) == 1


async def test_lone_span_that_is_too_large_is_not_told_to_be_fewer() -> None:
    with MockCollector(script="413*") as collector:
        async with delivering(collector, no_headers, span_row(1)) as at:
            at.pauses.are_short = False
            began = at.pauses.began
            with anyio.fail_after(10):
                await began.wait()
            status = at.courier.status

            assert status.state is DestinationState.BLOCKED
            assert "one span alone is too large for it" in status.reason
            assert "max_batch" not in status.reason


async def test_login_page_with_a_200_loses_nothing_and_all_arrives_once_it_is_gone() -> None:
    page = ok(body="<html><title>Sign in</title>", content_type="text/html", times=None)
    with MockCollector(script=[page]) as collector:
        async with delivering(collector, no_headers, span_row(1), span_row(2)) as at:
            at.pauses.are_short = False
            await at.backlog.until(lambda: at.backlog.given_back > 0)
            await anyio.wait_all_tasks_blocked()
            assert at.courier.status.state is DestinationState.BLOCKED
            assert "200 OK: “Sign in” (that is a web page" in at.courier.status.reason
            assert at.backlog.settled == []

            collector.script.clear()
            at.courier.wake()
            await at.backlog.until(lambda: at.backlog.settled == [1, 2])

    assert not at.backlog.dead


async def test_partial_success_sets_the_batch_aside_with_the_words() -> None:
    with MockCollector(script="partial=2:too old") as collector:
        async with delivering(collector, no_headers, span_row(1, 5)) as at:
            await at.backlog.until(lambda: at.backlog.settled == [1])

    (letter,) = at.backlog.dead
    assert letter.words == "2 of 5 refused, not known which: too old"
    assert (letter.items, letter.affected) == (5, 2)


async def test_destination_that_hangs_does_not_touch_another() -> None:
    with MockCollector(script="hang*") as hanging, MockCollector() as well:
        async with (
            delivering(hanging, no_headers, span_row(1)) as one,
            delivering(well, no_headers) as other,
        ):
            await hanging.journal.wait_for_requests_async(1)
            for number in range(1, 21):
                other.backlog.add(span_row(number))
                await other.backlog.until(lambda n=number: n in other.backlog.settled)  # type: ignore[misc]

            assert one.courier.status.state is DestinationState.DELIVERING
            assert one.backlog.settled == []
            with anyio.fail_after(5):
                await one.courier.stop(0)
            assert [row.row for row in one.backlog.owed] == [1]
        hanging.release()


async def test_connection_that_is_cut_before_an_answer_does_not_lose_a_span() -> None:
    with MockCollector(script="ok,cut,ok,cut-answer,ok") as collector:
        async with delivering(collector, no_headers) as at:
            for number in range(1, 4):
                at.backlog.add(span_row(number))
                await at.backlog.until(lambda n=number: n in at.backlog.settled)  # type: ignore[misc]

        assert at.backlog.settled == [1, 2, 3]
        assert {span.name for span in collector.journal.spans()} == {"span-1", "span-2", "span-3"}
