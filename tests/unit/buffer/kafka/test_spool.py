"""What waits on a relay's own disk is handed over when the brokers take it, and not before."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import anyio
import pytest

from relay.buffer.kafka.letters import Sends
from relay.buffer.kafka.records import Outgoing
from relay.buffer.kafka.spool import Appends, Spool
from relay.model.errors import BufferUnavailable, Refusal
from relay.model.records import Encoding, Request, Signal
from tests.unit.buffer.making import SETTINGS, piece, rejected_span, request

pytestmark = pytest.mark.anyio


class Brokers(Appends, Sends):
    """Who takes what is handed over, when `is_there`."""

    def __init__(self) -> None:
        self.is_there = False
        self.requests: list[Request] = []
        self.batches: list[int] = []  # how many requests each had, refused ones included
        self.most_batches = -1  # after so many they are away once; below 0: never
        self.letters: list[Outgoing] = []
        self.sent: list[int] = []  # how many letters each call had, refused ones included
        self.too_large_letter: Callable[[Outgoing], bool] = lambda _letter: False
        self.too_large: bytes | None = None

    async def append_in_order(self, requests: Sequence[Request]) -> None:
        if not self.is_there:
            raise BufferUnavailable
        if len(self.batches) == self.most_batches:
            self.most_batches = -1
            raise BufferUnavailable
        self.batches.append(len(requests))
        for each in requests:
            if each.pieces[0].body == self.too_large:
                raise Refusal("too large", status=413)
            self.requests.append(each)

    async def send(self, records: Sequence[Outgoing]) -> Sequence[object]:
        if not self.is_there:
            raise BufferUnavailable
        self.sent.append(len(records))
        if any(map(self.too_large_letter, records)):
            raise Refusal("too large", status=413)
        self.letters += records
        return []


async def until_empty(spool: Spool) -> None:
    with anyio.fail_after(20):
        while spool.waiting_items:  # noqa: ASYNC110 - there is no event for it
            await anyio.sleep(0.02)


async def test_what_came_while_they_were_away_is_handed_over_with_who_sent_it(
    tmp_path: Path,
) -> None:
    brokers = Brokers()
    spool = Spool(tmp_path, SETTINGS, "letters")
    spool.open()
    wanted = {signal: piece(signal=signal, spans=3) for signal in Signal}
    async with anyio.create_task_group() as group:
        group.start_soon(spool.run, brokers, brokers)
        for each in wanted.values():
            await spool.append(request(each, agent="sdk/7"))
        assert spool.waiting_items == 9
        brokers.is_there = True
        await until_empty(spool)
        group.cancel_scope.cancel()
    assert {each.pieces[0].signal: each.pieces[0] for each in brokers.requests} == wanted
    assert {each.sender.user_agent for each in brokers.requests} == {"sdk/7"}
    assert {each.sender.address for each in brokers.requests} == {"192.0.2.7"}
    await spool.close()


async def test_what_waits_outlives_the_process(tmp_path: Path) -> None:
    first = Spool(tmp_path, SETTINGS, "letters")
    first.open()
    await first.append(request(piece(spans=2)))
    await first.close()
    brokers = Brokers()
    brokers.is_there = True
    spool = Spool(tmp_path, SETTINGS, "letters")
    spool.open()
    async with anyio.create_task_group() as group:
        group.start_soon(spool.run, brokers, brokers)
        await until_empty(spool)
        group.cancel_scope.cancel()
    assert [each.pieces[0].items for each in brokers.requests] == [2]
    await spool.close()


async def test_dead_letters_are_handed_over_too(tmp_path: Path) -> None:
    brokers = Brokers()
    brokers.is_there = True
    spool = Spool(tmp_path, SETTINGS, "letters")
    spool.open()
    await spool.append(request(rejected=(rejected_span(),)))
    async with anyio.create_task_group() as group:
        group.start_soon(spool.run, brokers, brokers)
        with anyio.fail_after(20):
            while spool.statistics().dead_letters or not brokers.letters:  # noqa: ASYNC110
                await anyio.sleep(0.02)
        group.cancel_scope.cancel()
    assert [each.topic for each in brokers.letters] == ["letters"]
    await spool.close()


async def test_dead_letters_go_many_at_once_and_one_that_is_refused_alone_stays(
    tmp_path: Path,
) -> None:
    brokers = Brokers()
    brokers.is_there = True
    brokers.too_large_letter = lambda letter: b"refuse me" in (letter.value or b"")
    spool = Spool(tmp_path, SETTINGS, "letters")
    spool.open()
    for number in range(12):
        body = b"refuse me" if number == 7 else b"%d" % number
        await spool.append(request(rejected=(replace(rejected_span(), body=body),)))
    async with anyio.create_task_group() as group:
        group.start_soon(spool.run, brokers, brokers)
        with anyio.fail_after(20):
            while spool.statistics().dead_letters[""].count > 1:  # noqa: ASYNC110
                await anyio.sleep(0.02)
        group.cancel_scope.cancel()
    assert brokers.sent[:2] == [12, 1]
    assert len(brokers.letters) == 11
    await spool.close()


async def test_metrics_of_mixed_encodings_go_in_their_order_and_many_at_once(
    tmp_path: Path,
) -> None:
    brokers = Brokers()
    spool = Spool(tmp_path, SETTINGS, "letters")
    spool.open()
    bodies = [b"%04d" % number for number in range(150)]
    for number, body in enumerate(bodies):
        await spool.append(
            request(piece(body, encoding=(*Encoding,)[number % 2], signal=Signal.METRICS))
        )
    brokers.is_there = True
    async with anyio.create_task_group() as group:
        group.start_soon(spool.run, brokers, brokers)
        await until_empty(spool)
        group.cancel_scope.cancel()
    assert [each.pieces[0].body for each in brokers.requests] == bodies
    assert {each.sender.user_agent for each in brokers.requests} == {"sdk"}
    assert len(brokers.batches) <= 4
    await spool.close()


async def test_what_was_handed_over_before_they_went_away_again_does_not_come_twice(
    tmp_path: Path,
) -> None:
    brokers = Brokers()
    spool = Spool(tmp_path, SETTINGS, "letters")
    spool.open()
    bodies = [b"%04d" % number for number in range(40)]
    for body in bodies:
        await spool.append(request(piece(body, signal=Signal.METRICS)))
    brokers.is_there, brokers.most_batches = True, 2
    with patch("relay.buffer.kafka.spool._ROWS_AT_ONCE", 10):
        async with anyio.create_task_group() as group:
            group.start_soon(spool.run, brokers, brokers)
            await until_empty(spool)
            group.cancel_scope.cancel()
    assert brokers.batches == [10, 10, 10, 10]
    assert [each.pieces[0].body for each in brokers.requests] == bodies
    await spool.close()


async def test_what_they_never_take_is_found_among_many_in_few_steps(tmp_path: Path) -> None:
    brokers = Brokers()
    spool = Spool(tmp_path, SETTINGS, "letters")
    spool.open()
    bodies = [b"%04d" % number for number in range(100)]
    bodies[70] = brokers.too_large = b"much" * 300
    for body in bodies:
        await spool.append(request(piece(body, signal=Signal.METRICS)))
    brokers.is_there = True
    async with anyio.create_task_group() as group:
        group.start_soon(spool.run, brokers, brokers)
        with anyio.fail_after(20):
            while spool.waiting_items > 1:  # noqa: ASYNC110 - there is no event for it
                await anyio.sleep(0.02)
        group.cancel_scope.cancel()
    arrived = dict.fromkeys(each.pieces[0].body for each in brokers.requests)
    assert list(arrived) == bodies[:70] + bodies[71:]
    assert len(brokers.batches) <= 6
    await spool.close()


async def test_what_they_never_take_stays_and_holds_up_nothing(tmp_path: Path) -> None:
    brokers = Brokers()
    brokers.is_there = True
    large = piece()
    brokers.too_large = large.body
    spool = Spool(tmp_path, SETTINGS, "letters")
    spool.open()
    async with anyio.create_task_group() as group:
        group.start_soon(spool.run, brokers, brokers)
        await spool.append(request(large))
        await spool.append(request(piece()))
        with anyio.fail_after(20):
            while not brokers.requests:  # noqa: ASYNC110
                await anyio.sleep(0.02)
        group.cancel_scope.cancel()
    assert spool.waiting_items == 1
    await spool.close()
