"""The way in: what is kept, what is answered, what is counted."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from relay.config.steps import ProcessConfig
from relay.ingest import pipeline as pipeline_module
from relay.ingest.pipeline import QUICK_BYTES, Pipeline
from relay.model.counters import Counters
from relay.model.errors import BufferFull, Refusal
from relay.model.records import SUCCESS, Encoding, Request, Sender, Signal
from relay.process.before_kept import BeforeKept
from relay.process.check.rejections import AllItemsRejected
from relay.process.check.weight import NEVER_HEAVY_BYTES
from relay.process.prepare import Prepare, Prepared, PrepareSettings
from tests.support.fixtures import NEW_NS

pytestmark = pytest.mark.anyio
FIXTURES = Path(__file__).parents[2] / "fixtures"
SENDER = Sender("127.0.0.1", is_local=True)


class FakeLog:
    def __init__(self, error: Exception | None = None) -> None:
        self.requests: list[Request] = []
        self.error = error

    async def append(self, request: Request) -> None:
        if self.error:
            raise self.error
        self.requests.append(request)


def pipeline(log: FakeLog, counters: Counters | None = None) -> Pipeline:
    prepare = Prepare(PrepareSettings(detected={"host.name": "box"}), clock_ns=lambda: NEW_NS)
    return Pipeline(prepare, log, counters or Counters(), clock_ns=lambda: 7)


async def test_valid_request_is_kept_enriched_and_answered_with_plain_success() -> None:
    log, counters = FakeLog(), Counters()
    body = (FIXTURES / "01_minimal.json").read_bytes()
    answer = await pipeline(log, counters).accept(body, Encoding.JSON, SENDER)

    assert answer == SUCCESS
    (request,) = log.requests
    assert request.received_ns == 7
    assert request.pieces[0].items == 1
    assert request.pieces[0].services == ("fixture",)
    assert b'"host.name"' in request.pieces[0].body
    assert counters.kept_items == counters.received_items == {Signal.TRACES: 1}


async def test_rejected_spans_travel_with_the_kept_ones_and_are_counted_by_reason() -> None:
    log, counters = FakeLog(), Counters()
    body = (FIXTURES / "18_invalid_ids_mixed.json").read_bytes()
    answer = await pipeline(log, counters).accept(body, Encoding.JSON, SENDER)

    assert answer.status == 200
    assert answer.rejected_items == 8
    assert len(log.requests[0].rejected) == 8
    assert log.requests[0].pieces[0].items == 2
    assert sum(counters.rejected_items.values()) == 8
    assert counters.received_items == {Signal.TRACES: 10}


async def test_request_without_a_valid_span_is_refused_and_its_spans_are_kept_as_dead_letters() -> (
    None
):
    log, counters = FakeLog(), Counters()
    body = (FIXTURES / "19_all_spans_invalid.json").read_bytes()
    with pytest.raises(AllItemsRejected):
        await pipeline(log, counters).accept(body, Encoding.JSON, SENDER)

    assert log.requests[0].pieces == ()
    assert len(log.requests[0].rejected) == 2
    assert not counters.kept_items
    assert counters.received_items == {Signal.TRACES: 2}
    assert sum(counters.rejected_items.values()) == 2


async def test_full_buffer_is_passed_on_and_nothing_counts_as_kept() -> None:
    counters = Counters()
    body = (FIXTURES / "01_minimal.json").read_bytes()
    with pytest.raises(BufferFull):
        await pipeline(FakeLog(BufferFull()), counters).accept(body, Encoding.JSON, SENDER)

    assert not counters.kept_items


@pytest.mark.parametrize("name", ["15_enum_names", "18_invalid_ids_mixed", "19_all_spans_invalid"])
async def test_what_is_sent_again_for_a_full_buffer_is_not_counted_twice(name: str) -> None:
    log, counters = FakeLog(BufferFull()), Counters()
    body = (FIXTURES / f"{name}.json").read_bytes()
    way_in = pipeline(log, counters)
    with pytest.raises(BufferFull):
        await way_in.accept(body, Encoding.JSON, SENDER)

    assert not counters.received_items
    assert not counters.rejected_items
    assert not counters.warnings


async def test_empty_request_is_a_success_and_writes_nothing() -> None:
    log = FakeLog()
    answer = await pipeline(log).accept(b"{}", Encoding.JSON, SENDER)

    assert answer == SUCCESS
    assert log.requests == []


async def test_warning_reaches_the_sender_with_nothing_rejected() -> None:
    body = json.dumps({"resource_spans": []}).encode()
    answer = await pipeline(FakeLog()).accept(body, Encoding.JSON, SENDER)

    assert answer.status == 200
    assert answer.rejected_items == 0
    assert "snake_case" in answer.message or "resource_spans" in answer.message


async def test_body_that_cannot_be_read_is_kept_as_a_dead_letter_and_refused() -> None:
    log = FakeLog()
    with pytest.raises(Refusal):
        await pipeline(log).accept(b"[" * 60_000, Encoding.JSON, SENDER)

    (kept,) = log.requests
    (letter,) = kept.rejected
    assert (kept.pieces, letter.reason) == ((), "body_unreadable")
    assert (letter.body, letter.path) == (b"[" * 52_428, "the first 52,428 of 60,000 bytes")


async def test_body_that_cannot_be_read_is_refused_as_such_by_a_full_buffer_too() -> None:
    with pytest.raises(Refusal) as refusal:
        await pipeline(FakeLog(BufferFull())).accept(b"[", Encoding.JSON, SENDER)

    assert refusal.value.status == 400


async def test_body_that_holds_nothing_is_told_to_the_sender_and_logged_once_a_minute() -> None:
    way = pipeline(FakeLog())
    with capture_logs() as events:
        answers = [await way.accept(b'{"data":{}}', Encoding.JSON, SENDER) for _ in range(3)]
        empty = await way.accept(b"{}", Encoding.JSON, SENDER)

    assert {(answer.status, answer.rejected_items) for answer in answers} == {(200, 0)}
    assert answers[0].message.startswith("no span was found in it; keys at the top: data;")
    (event,) = [event for event in events if event["event"] == "request_held_nothing"]
    assert event["sender"] == SENDER.address
    assert "keys at the top: data" in event["message"]
    assert empty == SUCCESS


@pytest.mark.parametrize(
    ("name", "signal", "items"),
    [("41_log_full.logs", Signal.LOGS, 1), ("50_metric_full.metrics", Signal.METRICS, 6)],
)
async def test_items_of_each_signal_are_kept_and_counted_apart(
    name: str, signal: Signal, items: int
) -> None:
    log, counters = FakeLog(), Counters()
    body = (FIXTURES / f"{name}.json").read_bytes()
    await pipeline(log, counters).accept(body, Encoding.JSON, SENDER, signal)

    (piece,) = log.requests[0].pieces
    assert (piece.signal, piece.items) == (signal, items)
    assert counters.received_items == counters.kept_items == {signal: items}


async def test_spans_at_the_endpoint_of_logs_are_told_where_they_belong() -> None:
    body = (FIXTURES / "48_spans_at_logs.logs.json").read_bytes()
    counters = Counters()
    answer = await pipeline(FakeLog(), counters).accept(body, Encoding.JSON, SENDER, Signal.LOGS)

    assert (answer.status, answer.rejected_items) == (200, 0)
    assert "belongs to /v1/traces" in answer.message
    assert counters.warnings == {(Signal.LOGS, "traces_body"): 1}


async def test_body_is_let_go_while_what_is_made_of_it_is_written() -> None:
    """Of a large one there would be twice as much in memory for as long as the disk takes."""
    freed = []

    class Body(bytes):
        def __del__(self) -> None:
            freed.append(True)

    class Log(FakeLog):
        async def append(self, request: Request) -> None:
            await super().append(request)
            assert freed == [True]

    log = Log()
    accepted = pipeline(log).accept(
        Body((FIXTURES / "01_minimal.json").read_bytes()), Encoding.JSON, SENDER
    )
    assert await accepted == SUCCESS
    assert len(log.requests) == 1


def dropping(condition: str) -> BeforeKept:
    return BeforeKept(ProcessConfig(drop=condition))


async def test_what_is_dropped_before_it_is_kept_was_received_and_is_counted_as_dropped() -> None:
    log, counters = FakeLog(), Counters()
    way = pipeline(log, counters)
    way.before_kept = dropping("true")
    answer = await way.accept((FIXTURES / "01_minimal.json").read_bytes(), Encoding.JSON, SENDER)

    assert answer == SUCCESS
    assert log.requests == []
    assert counters.received_items == {Signal.TRACES: 1}
    assert counters.processed_items == {(Signal.TRACES, "drop"): 1}
    assert not counters.kept_items


class FakePrepare:
    """Prepares nothing, and remembers how it was asked, in which turn."""

    settings = PrepareSettings()

    def __init__(self) -> None:
        self.asked: list[tuple[int, bool]] = []
        self.turns = 0

    def __call__(self, *_args: Any, is_bounded: bool = False, **_options: Any) -> Prepared:
        self.asked.append((self.turns, is_bounded))
        return Prepared((), 0)


@pytest.mark.parametrize(
    ("size", "turns"),
    [
        (NEVER_HEAVY_BYTES, [(0, False)] * 3),
        (NEVER_HEAVY_BYTES + 1, [(0, True)] * 3),
        (QUICK_BYTES, [(0, True)] * 3),
        (QUICK_BYTES + 1, [(1, True), (2, True), (3, True)]),
    ],
)
async def test_bodies_are_prepared_at_once_but_for_large_ones_of_which_each_has_a_turn(
    monkeypatch: pytest.MonkeyPatch, size: int, turns: list[tuple[int, bool]]
) -> None:
    prepare, slept = FakePrepare(), list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await anyio.lowlevel.checkpoint()
        prepare.turns += 1

    monkeypatch.setattr(asyncio, "sleep", sleep)
    unasked: Any = object()
    way = Pipeline(prepare, FakeLog(), Counters(), offload=unasked)  # type: ignore[arg-type]
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(way.accept, bytes(size), Encoding.JSON, SENDER)

    assert prepare.asked == turns
    assert slept == [0] * turns[-1][0]


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
async def test_each_request_is_logged_where_somebody_looks_for_that(
    monkeypatch: pytest.MonkeyPatch, level: int
) -> None:
    told: list[dict[str, Any]] = []

    class Told:
        def is_enabled_for(self, asked: int) -> bool:
            return asked >= level

        def debug(self, event: str, **fields: Any) -> None:
            told.append({"event": event, **fields})

        warning = debug

    monkeypatch.setattr(pipeline_module, "log", Told())
    way = pipeline(FakeLog())
    body = (FIXTURES / "01_minimal.json").read_bytes()
    await way.accept(body, Encoding.JSON, SENDER)
    way.before_kept = dropping("true")  # of what is left no service can be told
    await way.accept((FIXTURES / "18_invalid_ids_mixed.json").read_bytes(), Encoding.JSON, SENDER)

    kept = [event for event in told if event["event"] == "request_kept"]
    assert [(event["spans"], event["services"], event["bytes"]) for event in kept] == (
        [(1, "fixture", len(body))] if level == logging.DEBUG else []
    )
