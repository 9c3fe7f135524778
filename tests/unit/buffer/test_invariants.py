"""A model beside the buffer: whatever happens, nothing acknowledged is lost or out of order.

The model knows bodies by number. What is on disk may be older than memory only by deliveries: a
crash may send again, never lose.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from relay.buffer import Buffer
from relay.counters import Counters
from relay.records import Encoding, Piece, Taken
from tests.unit.buffer.making import NOW_NS, SETTINGS, noise, request, trace_id

Result = TypeVar("Result")
NAMES = ("a", "b")
names = st.sampled_from(NAMES)


class BufferMachine(RuleBasedStateMachine):
    """Appends, takes, settles, gives back, opens again, crashes."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.root = Path(tempfile.mkdtemp(prefix="buffer-model-"))
        self.generation = 0
        self.count = 0
        self.acknowledged: list[int] = []
        self.owed: dict[str, list[int]] = {name: [] for name in NAMES}  # by memory
        self.maybe: dict[str, set[int]] = {name: set() for name in NAMES}  # settled, not synced
        self.held: list[tuple[str, Taken, list[int]]] = []

    def run(self, task: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(task)

    @property
    def directory(self) -> Path:
        return self.root / str(self.generation)

    @initialize(
        tail_bytes=st.sampled_from([0, 600, 1 << 20]),
        row_bytes=st.sampled_from([1, 300, 1 << 19]),
        transaction_bytes=st.sampled_from([200, 1 << 23]),
        keep=st.sampled_from([0.0, 3600.0]),
    )
    def start(self, tail_bytes: int, row_bytes: int, transaction_bytes: int, keep: float) -> None:
        self.settings = replace(
            SETTINGS,
            tail_bytes=tail_bytes,
            row_bytes=row_bytes,
            transaction_bytes=transaction_bytes,
            keep_delivered_seconds=keep,
            flush_seconds=60.0,
            wal_checkpoint_bytes=64 * 1024,
        )
        self.open()

    def open(self) -> None:
        self.buffer = Buffer(self.directory, self.settings, Counters(), clock_ns=lambda: NOW_NS)
        self.buffer.open()
        self.backlogs = {name: self.buffer.destination(name, start="beginning") for name in NAMES}

    @rule(
        sizes=st.lists(st.integers(0, 500), min_size=1, max_size=6),
        encoding=st.sampled_from(Encoding),
    )
    def append(self, sizes: list[int], encoding: Encoding) -> None:
        numbers = [self.count + index + 1 for index in range(len(sizes))]
        self.count += len(sizes)

        async def together() -> None:
            await asyncio.gather(
                *(
                    self.buffer.append(request(body_of(number, size, encoding)))
                    for number, size in zip(numbers, sizes, strict=True)
                )
            )

        self.run(together())
        self.acknowledged += numbers
        for name in NAMES:
            self.owed[name] += numbers
            # Moves went to disk with the commit.
            self.maybe[name].clear()

    @rule(name=names, max_bytes=st.integers(1, 2000), max_spans=st.integers(1, 8))
    def take(self, name: str, max_bytes: int, max_spans: int) -> None:
        taken = self.run(
            self.backlogs[name].take(max_bytes=max_bytes, max_spans=max_spans, one_encoding=True)
        )
        in_flight = {number for owner, _, held in self.held if owner == name for number in held}
        free = [number for number in self.owed[name] if number not in in_flight]
        if taken is None:
            assert free == []
            return
        numbers = numbers_of(taken)
        assert set(numbers) <= set(free)
        assert len(numbers) == len(set(numbers))
        assert len({row.encoding for row in taken.rows}) == 1
        assert [row.row for row in taken.rows] == sorted(row.row for row in taken.rows)
        if len(taken.rows) > 1:
            assert sum(len(row.body) for row in taken.rows) <= max_bytes
            assert taken.spans <= max_spans
        self.held.append((name, taken, numbers))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), is_delivered=st.booleans())
    def land(self, data: st.DataObject, is_delivered: bool) -> None:
        index = data.draw(st.integers(0, len(self.held) - 1))
        name, taken, numbers = self.held.pop(index)
        if not is_delivered:
            self.backlogs[name].give_back(taken)
            return
        self.backlogs[name].settle(taken, status=200, at_ns=NOW_NS)
        self.owed[name] = [number for number in self.owed[name] if number not in numbers]
        self.maybe[name] |= set(numbers)

    @rule()
    def flush(self) -> None:
        self.run(self.buffer.flush())
        for name in NAMES:
            self.maybe[name].clear()

    @rule()
    def reopen(self) -> None:
        self.run(self.buffer.close())
        self.held.clear()
        for name in NAMES:
            self.maybe[name].clear()
        self.open()

    @rule()
    def crash(self) -> None:
        """The files as they are now, opened elsewhere; the running buffer is thrown away."""
        source = self.directory
        self.generation += 1
        self.directory.mkdir()
        # Retention may commit at any time: hold the writer by asking it in between.
        for name in ("relay.db", "relay.db-wal"):
            shutil.copy(source / name, self.directory / name)
        self.run(self.buffer.close())
        self.held.clear()
        self.open()
        for name in NAMES:
            found = self.run(self.all_of(name))
            assert set(self.owed[name]) <= set(found), "an acknowledged request was lost"
            assert set(found) <= set(self.owed[name]) | self.maybe[name]
            self.owed[name] = found
            self.maybe[name].clear()

    async def all_of(self, name: str) -> list[int]:
        backlog = self.backlogs[name]
        held: list[Taken] = []
        while (taken := await backlog.take(max_bytes=1 << 20, max_spans=1 << 20)) is not None:
            held.append(taken)
        for taken in held:
            backlog.give_back(taken)
        return [number for taken in held for number in numbers_of(taken)]

    @invariant()
    def statistics_agree_with_the_model(self) -> None:
        if not hasattr(self, "buffer"):
            return
        for name in NAMES:
            found = self.backlogs[name].statistics()
            assert found.owed_spans == len(self.owed[name])
            flying = sum(len(numbers) for owner, _, numbers in self.held if owner == name)
            assert found.in_flight_spans == flying

    @precondition(lambda self: self.settings.keep_delivered_seconds and self.acknowledged)
    @rule(data=st.data())
    def find(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.acknowledged))
        places = self.run(self.buffer.find_trace(trace_id(number)))
        assert len(places) == 1
        states = {each.destination: each.state for each in places[0].deliveries}
        for name in NAMES:
            is_owed = number in self.owed[name]
            assert states[name] == ("waiting" if is_owed else "delivered")

    def teardown(self) -> None:
        if hasattr(self, "buffer"):
            self.run(self.buffer.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.root)


def body_of(number: int, size: int, encoding: Encoding) -> Piece:
    body = b"<%d>" % number + noise(size, number).replace(b"<", b"(").replace(b">", b")")
    return Piece(encoding, body, 1, trace_id(number))


def numbers_of(taken: Taken) -> list[int]:
    """The numbers in the bodies; each row holds as many as it has spans."""
    numbers: list[int] = []
    for row in taken.rows:
        found = [int(part.split(b">")[0]) for part in row.body.split(b"<")[1:]]
        assert len(found) == row.spans
        numbers += found
    return numbers


TestBufferMachine = BufferMachine.TestCase
TestBufferMachine.settings = settings(
    max_examples=20, stateful_step_count=25, deadline=None, print_blob=True
)
