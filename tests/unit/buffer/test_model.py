"""A model beside the buffer: whatever happens, nothing acknowledged is lost, and sums are right.

The model knows spans by number and holds, for each destination, which of them it is owed. The disk
may be behind memory by what was settled since the last commit: after a crash a destination is owed
the same or more, never less. The disk is `faulty_vfs`: what was not synced is gone after a crash,
but for a random part of it.
"""

import asyncio
import itertools
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from relay.buffer.api import Start
from relay.buffer.backlog_name import BacklogName
from relay.buffer.sqlite.backlog import Backlog
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.types import GoneRow, Totals
from relay.model.counters import Counters
from relay.model.errors import BufferFull
from relay.model.records import (
    DeadLetter,
    Encoding,
    OwedRange,
    Piece,
    Position,
    Request,
    Sender,
    Signal,
    Taken,
)
from relay.otlp import transcode
from tests.support import builders
from tests.support.examples import examples
from tests.support.faulty_vfs import FaultyVFS
from tests.unit.buffer.making import NOW_NS, SETTINGS, noise, rejected_span, trace_id

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", examples(60)))
STEPS = int(os.environ.get("MODEL_STEPS", "30"))
HOUR_NS = 3600 * 10**9
TRACES, LOGS, METRICS = Signal
NAMES = (
    BacklogName("a"),
    BacklogName("a", LOGS),
    BacklogName("b"),
    BacklogName("b", LOGS),
    BacklogName("b", METRICS),
    BacklogName("c"),
)
Result = TypeVar("Result")
# What is drawn never depends on the state of the buffer, which is a matter of timing in part: which
# requests share a row, when a delivered row goes. Rules that cannot be applied do nothing.
picks = st.integers(0, 10_000)
encodings = st.sampled_from(Encoding)
signals = st.sampled_from([TRACES, TRACES, TRACES, LOGS, LOGS, METRICS])
Shape = tuple[int, int, Encoding, Signal]
_disks = itertools.count()


@dataclass
class Owed:
    """What the model knows of one destination."""

    spans: set[int]  # owed by memory, in flight included
    behind: set[int]  # settled or given up, and the disk may still owe it
    ahead: set[int]  # owed again, and the disk may not know it yet
    is_paused: bool = False
    is_on_disk: bool = False
    has_gaps: bool = False  # it began before rows that had gone: its sums may count them


@dataclass
class Held:
    """What a courier would hold."""

    name: BacklogName
    taken: Taken
    spans: list[int]


class BufferModel(RuleBasedStateMachine):
    """Does to a buffer whatever can be done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.root = Path(tempfile.mkdtemp(prefix="buffer-model-"))
        self.generation = 0
        self.count = 0
        self.now_ns = NOW_NS
        self.rows: dict[int, list[int]] = {}
        self.owed: dict[BacklogName, Owed] = {}
        self.backlogs: dict[BacklogName, Backlog] = {}
        self.held: list[Held] = []
        self.deferred: dict[tuple[BacklogName, Position], set[int]] = {}
        self.letters: dict[str, tuple[BacklogName, set[int], bool]] = {}  # whose, what, is on disk
        self.rejected = 0
        self.kept_spans = dict.fromkeys(Signal, 0)
        self.signal_of: dict[int, Signal] = {}  # of each row
        self.is_expiring = False  # rows that nobody is owed may go at any time

    @staticmethod
    def one_of(choices: Iterable[BacklogName], pick: int) -> BacklogName | None:
        ordered = sorted(choices)
        return ordered[pick % len(ordered)] if ordered else None

    def run(self, task: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(task)

    @property
    def directory(self) -> Path:
        return self.root / str(self.generation)

    # -- life ---------------------------------------------------------------------------------

    @initialize(
        tail_bytes=st.sampled_from([0, 1500, 1 << 20]),
        row_bytes=st.sampled_from([1, 900, 1 << 19]),
        transaction_bytes=st.sampled_from([600, 1 << 23]),
        keep=st.sampled_from([0.0, 3600.0]),
        max_size=st.sampled_from([768 << 10, 1 << 30]),
        survival=st.sampled_from([0.0, 0.5]),
        destinations=st.sampled_from([0, 1, 2]),
        seed=st.integers(0, 1000),
    )
    def start(
        self,
        *,
        tail_bytes: int,
        row_bytes: int,
        transaction_bytes: int,
        keep: float,
        max_size: int,
        survival: float,
        destinations: int,
        seed: int,
    ) -> None:
        self.disk = FaultyVFS(f"model-{next(_disks)}", seed=seed, survival=survival)
        self.settings = replace(
            SETTINGS,
            tail_bytes=tail_bytes,
            row_bytes=row_bytes,
            transaction_bytes=transaction_bytes,
            keep_delivered_seconds=keep,
            max_size_bytes=max_size,
            flush_seconds=60.0,
            wal_checkpoint_bytes=32 * 1024,
            wal_truncate_bytes=128 * 1024,
        )
        self.is_expiring = keep == 0 or max_size < 1 << 30
        self.open()
        for pick in range(destinations):
            self.add_destination(pick=pick, start="auto", is_flushed=True)

    def open(self) -> None:
        self.buffer = Buffer(
            self.directory,
            self.settings,
            Counters(),
            clock_ns=lambda: self.now_ns,
            vfs=self.disk.vfs_name,
        )
        self.buffer.open()
        self.held.clear()
        self.deferred.clear()
        self.backlogs = {}
        for name in list(self.owed):
            if name not in self.buffer.consumers():
                assert not self.owed[name].is_on_disk, f"{name} was forgotten"
                del self.owed[name]
                continue
            self.backlogs[name] = self.buffer.consumer(name.destination, signal=name.signal)

    @rule(is_crash=st.booleans())
    def end(self, is_crash: bool) -> None:
        """One life of the buffer is over; the next begins."""
        if is_crash:
            self.crash()
        else:
            self.reopen()

    @rule(
        pick=picks,
        what=st.sampled_from(["flush", "pause", "resume", "clock", "reload"]),
        hours=st.sampled_from([-5, -1, 0, 1, 2, 5]),
        keep=st.sampled_from([0.0, 3600.0, 3600.0]),
    )
    def change(self, pick: int, what: str, hours: int, keep: float) -> None:
        """What happens now and then beside the flow of spans."""
        if what == "flush":
            self.flush()
        elif what == "clock":
            self.let_the_clock_jump(hours)
        elif what == "reload":
            self.reload(keep)
        else:
            self.pause(pick, is_paused=what == "pause")

    def reopen(self) -> None:
        self.run(self.buffer.close())
        self.everything_is_on_disk()
        self.open()

    def crash(self) -> None:
        """What is on the disk now, opened elsewhere; the running buffer is thrown away."""
        source = self.directory
        self.generation += 1
        self.disk.copy_disk(source, self.directory)
        self.run(self.buffer.close())
        self.open()
        on_disk = self.words_on_disk()
        for words, (name, spans, is_on_disk) in list(self.letters.items()):
            if words in on_disk:
                owed = self.owed.get(name)
                if owed is not None and not is_on_disk:
                    # Written in one transaction with what it settled. (What an older letter holds
                    # may have been owed again since.)
                    both = spans & owed.behind & self.all_of(name)
                    assert not both, f"{both} are dead and owed"
                self.letters[words] = (name, spans, True)
            else:
                assert not is_on_disk, "a dead letter was lost"
                assert name not in self.owed or spans <= self.all_of(name), "neither owed nor dead"
                del self.letters[words]
        for name, owed in self.owed.items():
            found = self.all_of(name)
            assert owed.spans - owed.ahead <= found, "an acknowledged span is owed no more"
            assert found <= owed.spans | owed.behind, "a span is owed that never was"
            is_paused = self.backlogs[name].is_paused
            assert is_paused == owed.is_paused or not owed.is_on_disk, f"{name} paused: {is_paused}"
            owed.is_paused = self.backlogs[name].is_paused
            owed.spans = found
        self.everything_is_on_disk()

    def flush(self) -> None:
        self.run(self.buffer.flush())
        self.everything_is_on_disk()

    def everything_is_on_disk(self) -> None:
        for owed in self.owed.values():
            owed.behind, owed.ahead, owed.is_on_disk = set(), set(), True
        self.letters = {
            words: (name, spans, True) for words, (name, spans, _) in self.letters.items()
        }

    def let_the_clock_jump(self, hours: int) -> None:
        self.now_ns += hours * HOUR_NS
        self.is_expiring |= hours > 0

    def reload(self, keep: float) -> None:
        self.settings = replace(self.settings, keep_delivered_seconds=keep)
        self.buffer.reload(self.settings)
        self.is_expiring |= keep == 0

    # -- the way in ---------------------------------------------------------------------------

    @rule(
        sizes=st.lists(st.sampled_from([0, 40, 900]), min_size=1, max_size=6),
        encoding=encodings,
        signal=signals,
    )
    def append_small(self, sizes: list[int], encoding: Encoding, signal: Signal) -> None:
        """Requests of an item or two, as they come from one application."""
        self.append([[(1 + index % 2, size, encoding, signal)] for index, size in enumerate(sizes)])

    @rule(
        spans=st.integers(3, 9),
        size=st.sampled_from([0, 3000]),
        encoding=encodings,
        signal=signals,
    )
    def append_batch(self, spans: int, size: int, encoding: Encoding, signal: Signal) -> None:
        """One request of several spans."""
        self.append([[(spans, size, encoding, signal)]])

    @rule(
        shapes=st.lists(
            st.lists(
                st.tuples(st.integers(1, 5), st.sampled_from([0, 40, 3000]), encodings, signals),
                max_size=3,
            ),
            min_size=1,
            max_size=4,
        ),
        rejected=st.integers(0, 2),
    )
    def append_any(self, shapes: list[list[Shape]], rejected: int) -> None:
        """Requests in pieces, with refused spans."""
        self.append(shapes, rejected)

    def append(self, shapes: list[list[Shape]], rejected: int = 0) -> None:
        requests, numbers = [], []
        of: dict[int, Signal] = {}
        for index, shape in enumerate(shapes):
            pieces, own = [], []
            for spans, size, encoding, signal in shape:
                ids = [self.count + i + 1 for i in range(spans)]
                self.count += spans
                pieces.append(piece_of(ids, size, encoding, signal))
                own += ids
                of.update(dict.fromkeys(ids, signal))
            bad = tuple(rejected_span() for _ in range(rejected if index == 0 else 0))
            sender = Sender("192.0.2.7")
            requests.append(Request(tuple(pieces), sender, self.now_ns, bad))
            numbers.append(own)
        before = self.buffer.last_row

        async def together() -> list[BaseException | None]:
            return await asyncio.gather(
                *(self.buffer.append(each) for each in requests), return_exceptions=True
            )

        answers = self.run(together())
        kept: set[int] = set()
        for request, own, answer in zip(requests, numbers, answers, strict=True):
            if answer is None:
                kept.update(own)
                self.rejected += len(request.rejected)
            else:
                assert isinstance(answer, BufferFull)
                assert self.settings.max_size_bytes < 1 << 30
        for number in kept:
            self.kept_spans[of[number]] += 1
        for row in self.run(self.buffer.read_rows(range(before + 1, self.buffer.last_row + 1))):
            assert row.row not in self.rows, "an id was used twice"
            self.rows[row.row] = ids_in(row.body, row.encoding, row.signal)
            self.signal_of[row.row] = row.signal
        if any(
            answer is None and (own or each.rejected)
            for each, own, answer in zip(requests, numbers, answers, strict=True)
        ):
            self.everything_is_on_disk()
        for name, owed in self.owed.items():
            owed.spans |= {number for number in kept if of[number] is name.signal}

    # -- destinations -------------------------------------------------------------------------

    @rule(
        pick=picks,
        start=st.sampled_from(["auto", "beginning", "end"]),
        is_flushed=st.booleans(),
    )
    def add_destination(self, pick: int, start: Start, is_flushed: bool) -> None:
        name = self.one_of([name for name in NAMES if name not in self.owed], pick)
        if name is None:
            return
        others = [other for other in self.owed if other.signal is name.signal]
        if start == "beginning" and self.is_expiring and others:
            return  # what is there just now cannot be known from outside
        is_first = start == "beginning" or (start == "auto" and not others)
        spans: set[int] = set()
        has_gaps = False
        if is_first:
            self.run(self.buffer.flush())
            self.everything_is_on_disk()
            rows = [
                row
                for row in self.run(self.buffer.read_rows(range(1, self.buffer.last_row + 1)))
                if row.signal is name.signal
            ]
            spans = {n for row in rows for n in ids_in(row.body, row.encoding, row.signal)}
            ends = (rows[0].row, rows[-1].row) if rows else (0, 0)
            others_between = sum(
                ends[0] < row < ends[1] and signal is not name.signal
                for row, signal in self.signal_of.items()
            )
            has_gaps = bool(rows) and ends[1] - ends[0] >= len(rows) + others_between
            if not self.is_expiring:
                assert len(spans) == self.kept_spans[name.signal]
        is_paused = any(owed.is_paused for other, owed in self.owed.items() if is_same(other, name))
        self.backlogs[name] = self.buffer.consumer(name.destination, start, signal=name.signal)
        assert self.backlogs[name].is_paused == is_paused
        self.owed[name] = Owed(spans, set(), set(), is_paused=is_paused, has_gaps=has_gaps)
        if is_flushed:
            self.flush()

    @rule(pick=picks)
    def remove_destination(self, pick: int) -> None:
        name = self.one_of(self.owed, pick)
        if name is None or pick % 3:  # seldom: it takes all that was built up with it
            return
        self.run(self.buffer.remove(name.destination))
        for each in [each for each in self.owed if is_same(each, name)]:
            del self.backlogs[each], self.owed[each]
            for held in [held for held in self.held if held.name == each]:
                self.held.remove(held)
            self.forget_deferred(each)
        self.everything_is_on_disk()

    def forget_deferred(self, name: BacklogName, gone: set[int] | None = None) -> None:
        """Nothing of `gone`, or nothing at all, is deferred any more."""
        self.deferred = {
            at: spans
            for at, spans in self.deferred.items()
            if at[0] != name or (gone is not None and not spans & gone)
        }

    def pause(self, pick: int, is_paused: bool) -> None:
        name = self.one_of(self.owed, pick)
        if name is None:
            return
        self.run(self.buffer.set_paused(name.destination, is_paused=is_paused))
        for each, owed in self.owed.items():
            if is_same(each, name):
                owed.is_paused = is_paused
        self.everything_is_on_disk()

    # -- the way out --------------------------------------------------------------------------

    def free(self, name: BacklogName) -> set[int]:
        flying = {number for held in self.held if held.name == name for number in held.spans}
        deferred = {n for at, spans in self.deferred.items() if at[0] == name for n in spans}
        return self.owed[name].spans - flying - deferred

    def hold(self, name: BacklogName, taken: Taken) -> None:
        numbers = self.numbers_of(taken)
        assert {row.signal for row in taken.rows} == {name.signal}
        assert set(numbers) <= self.free(name)
        assert len(numbers) == len(set(numbers)) == taken.items
        # A row may be there in two parts: what is between them was settled or is in flight.
        places = [(row.row, row.first_item) for row in taken.rows]
        assert places == sorted(set(places))
        self.held.append(Held(name, taken, numbers))

    def numbers_of(self, taken: Taken) -> list[int]:
        """The spans in the bodies; each row holds what it held at first, or its part of that."""
        numbers: list[int] = []
        for row in taken.rows:
            found = ids_in(row.body, row.encoding, row.signal)
            assert len(found) == row.items
            known = self.rows.get(row.row)
            if known is not None:
                assert found == known[row.first_item : row.first_item + row.items]
            numbers += found
        return numbers

    @rule(
        pick=picks,
        max_bytes=st.integers(1, 6000),
        max_items=st.integers(1, 12),
        one_encoding=st.booleans(),
    )
    def take(self, pick: int, max_bytes: int, max_items: int, one_encoding: bool) -> None:
        name = self.one_of(self.owed, pick)
        if name is None:
            return
        backlog = self.backlogs[name]
        taken = self.run(
            backlog.take(max_bytes=max_bytes, max_items=max_items, one_encoding=one_encoding)
        )
        if taken is None:
            assert not self.free(name) or self.is_in_turn(name)
            return
        first = min(self.free(name), key=self.place_of)
        self.hold(name, taken)
        assert first in self.held[-1].spans, "it was not the oldest"
        if one_encoding:
            assert len({row.encoding for row in taken.rows}) == 1
        if len(taken.rows) > 1:
            assert sum(len(row.body) for row in taken.rows) <= max_bytes
            assert taken.items <= max_items

    def is_in_turn(self, name: BacklogName) -> bool:
        """Whether what comes next has to wait for what is out."""
        return name.signal is METRICS and any(held.name == name for held in self.held)

    def place_of(self, number: int) -> tuple[int, int]:
        for row, numbers in self.rows.items():
            if number in numbers:
                return row, numbers.index(number)
        raise AssertionError(f"span {number} is owed, and its row was not there after its commit")

    @rule(pick=picks, encoding=st.sampled_from([None, *Encoding]))
    def take_newest(self, pick: int, encoding: Encoding | None) -> None:
        name = self.one_of(self.owed, pick)
        if name is None:
            return
        taken = self.run(self.backlogs[name].take_newest(encoding))
        if taken is None:
            assert encoding is not None or not self.free(name) or name.signal is METRICS
            return
        assert name.signal is not METRICS
        (row,) = taken.rows
        assert encoding in (None, row.encoding)
        if encoding is None:
            assert row.row == max(self.place_of(number)[0] for number in self.free(name))
        self.hold(name, taken)

    @rule(pick=picks, spans=st.integers(1, 8))
    def split(self, pick: int, spans: int) -> None:
        large = [held for held in self.held if held.taken.items > 1]
        if not large:
            return
        held = large[pick % len(large)]
        self.held.remove(held)
        self.held += self.cut(held, spans)

    def cut(self, held: Held, spans: int) -> list[Held]:
        parts = self.run(self.backlogs[held.name].split(held.taken, spans))
        numbers = [self.numbers_of(part) for part in parts]
        assert list(itertools.chain(*numbers)) == held.spans
        return [Held(held.name, part, own) for part, own in zip(parts, numbers, strict=True)]

    @rule(pick=picks, is_delivered=st.sampled_from([True, True, False]), letters=st.integers(0, 2))
    def land(self, pick: int, is_delivered: bool, letters: int) -> None:
        if not self.held:
            return
        held = self.held.pop(pick % len(self.held))
        backlog, owed = self.backlogs[held.name], self.owed[held.name]
        if not is_delivered:
            backlog.give_back(held.taken)
            return
        dead = []
        for _ in range(letters):
            words = f"refused {len(self.letters)} of {self.count} in {self.generation}"
            row = held.taken.rows[0]
            body = b"{}"
            dead.append(
                DeadLetter(
                    held.name.destination,
                    "upstream_refused",
                    words,
                    1,
                    row.encoding,
                    body,
                    signal=held.name.signal,
                )
            )
            # What was owed again since the disk last heard of it may be forgotten with its letter.
            self.letters[words] = (held.name, set(held.spans) & owed.spans - owed.ahead, False)
        backlog.settle_with(held.taken, dead, status=200, at_ns=self.now_ns)
        # Settled twice is settled once.
        backlog.settle(held.taken, status=200, at_ns=self.now_ns)
        owed.behind |= owed.spans & set(held.spans)
        owed.spans -= set(held.spans)
        owed.ahead -= set(held.spans)

    @rule(pick=picks, is_known=st.booleans())
    def park(self, pick: int, is_known: bool) -> None:
        """Keep a part of one row from everybody who does not ask for it."""
        of_one_row = [held for held in self.held if len(held.taken.rows) == 1]
        if not of_one_row:
            return
        held = of_one_row[pick % len(of_one_row)]
        self.held.remove(held)
        trace_ids = b"".join(map(trace_id, held.spans)) if is_known else b""
        self.backlogs[held.name].park(held.taken, trace_ids)
        if set(held.spans) <= self.owed[held.name].spans:
            self.deferred[held.name, held.taken.ranges[0].start] = set(held.spans)

    @rule(pick=picks, is_for_all=st.sampled_from([False, False, True]))
    def ask_for_deferred(self, pick: int, is_for_all: bool) -> None:
        if not self.deferred:
            return
        name, place = sorted(self.deferred)[pick % len(self.deferred)]
        if is_for_all:
            self.backlogs[name].unpark()
            self.forget_deferred(name)
            return
        taken = self.run(self.backlogs[name].take_parked(place))
        assert taken is not None
        spans = self.deferred.pop((name, place))
        assert set(self.numbers_of(taken)) == spans
        self.held.append(Held(name, taken, self.numbers_of(taken)))
        assert self.run(self.backlogs[name].take_parked(place)) is None, "it is in flight"

    @rule(
        pick=picks,
        max_items=st.integers(1, 12),
        batches=st.integers(1, 6),
        letters=st.integers(0, 1),
        is_cut=st.booleans(),
    )
    def deliver(self, pick: int, max_items: int, batches: int, letters: int, is_cut: bool) -> None:
        """Take and settle at once, as a courier that nothing stands in the way of."""
        for _ in range(batches):
            held = len(self.held)
            self.take(pick=pick, max_bytes=4000, max_items=max_items, one_encoding=True)
            if len(self.held) == held:
                return
            if is_cut and self.held[-1].taken.items > 1:
                parts = self.cut(self.held.pop(), max_items // 2)
                self.held += parts
            self.land(pick=len(self.held) - 1, is_delivered=True, letters=letters)

    @rule(pick=picks, count=st.integers(1, 4))
    def owe_again(self, pick: int, count: int) -> None:
        name = self.one_of(self.owed, pick)
        if name is None or self.is_expiring:
            return
        owed = self.owed[name]
        done = [
            row
            for row, numbers in self.rows.items()
            if self.signal_of[row] is name.signal and not owed.spans & set(numbers)
        ]
        if not done:
            return
        chosen = done[pick % len(done) :][:count]
        rows = self.run(self.buffer.read_rows(chosen))
        assert len(rows) == len(chosen), "a delivered row went before its time"
        sums = Totals(len(rows), sum(row.items for row in rows), sum(len(row.body) for row in rows))
        self.backlogs[name].owe(tuple(map(whole, chosen)), sums)
        again = {number for row in chosen for number in self.rows[row]}
        owed.spans |= again
        owed.ahead |= again - owed.behind

    @rule(pick=picks)
    def evict(self, pick: int) -> None:
        name = self.one_of(self.owed, pick)
        if name is None:
            return
        owed = self.owed[name]
        rows = [row for row, numbers in self.rows.items() if set(numbers) <= owed.spans]
        if not rows:
            return
        chosen = rows[pick % len(rows)]
        (row,) = self.run(self.buffer.read_rows([chosen]))
        self.backlogs[name].evict((whole(chosen),), [GoneRow(chosen, row.items, len(row.body))])
        gone = set(self.rows[chosen])
        self.forget_deferred(name, gone)
        owed.behind |= gone
        owed.spans -= gone
        owed.ahead -= gone

    # -- what holds ---------------------------------------------------------------------------

    def all_of(self, name: BacklogName) -> set[int]:
        """Everything the destination is owed and nobody holds, as it is read from the buffer."""
        if self.is_in_turn(name):
            return self.free(name)
        held: list[Taken] = []
        backlog = self.backlogs[name]
        while (
            taken := self.run(backlog.take(max_bytes=1 << 22, max_items=8192, one_encoding=False))
        ) is not None:
            held.append(taken)
        found = [number for taken in held for number in self.numbers_of(taken)]
        for taken in held:
            backlog.give_back(taken)
        assert len(found) == len(set(found))
        return set(found)

    @rule(pick=picks, what=st.sampled_from(["rows", "letters", "trace"]))
    def look(self, pick: int, what: str) -> None:
        """Ask for what is kept, as the command line and the page do."""
        if what == "rows":
            self.read_everything(pick)
        elif what == "letters":
            self.read_dead_letters()
        else:
            self.find(pick)

    def read_everything(self, pick: int) -> None:
        name = self.one_of(self.owed, pick)
        if name is None:
            return
        assert self.all_of(name) == self.free(name)

    def words_on_disk(self) -> set[str]:
        stored = self.run(self.buffer.dead_letters.newest(limit=100_000))
        assert not any(each.is_damaged for each in stored), "a dead letter is damaged"
        rejected = sum(not each.letter.destination for each in stored)
        assert rejected == self.rejected, f"{rejected} rejected spans are kept, not {self.rejected}"
        return {each.letter.words for each in stored if each.letter.destination}

    def read_dead_letters(self) -> None:
        self.flush()
        assert self.words_on_disk() == set(self.letters)
        counts = self.buffer.statistics().dead_letters
        assert sum(each.count for each in counts.values()) == len(self.letters) + self.rejected

    def find(self, pick: int) -> None:
        if not self.rows or self.is_expiring:
            return
        known = sorted(itertools.chain(*self.rows.values()))
        number = known[pick % len(known)]
        places = self.run(self.buffer.traces.find(trace_id(number)))
        assert len(places) == 1
        states = {each.destination: each.state for each in places[0].deliveries}
        for name, owed in self.owed.items():
            if name.signal is places[0].signal:
                assert states[name.destination] == "waiting" or number not in owed.spans
            else:
                assert number not in owed.spans

    @invariant()
    def statistics_agree_with_the_model(self) -> None:
        for name, owed in self.owed.items():
            found = self.backlogs[name].statistics()
            if owed.has_gaps:
                assert found.owed_items >= len(owed.spans)
                continue
            assert found.owed_items == len(owed.spans)
            flying = sum(len(held.spans) for held in self.held if held.name == name)
            assert found.in_flight_items == flying
            known = {number for numbers in self.rows.values() for number in numbers}
            if owed.spans <= known:
                rows = sum(not owed.spans.isdisjoint(numbers) for numbers in self.rows.values())
                assert found.owed_rows == rows
            assert bool(found.owed_bytes) == bool(owed.spans)
        if not self.is_expiring and hasattr(self, "buffer"):
            assert self.buffer.statistics().items == sum(self.kept_spans.values())

    def look_at_everything(self) -> None:
        for name in self.owed:
            assert self.all_of(name) == self.free(name)
        self.read_dead_letters()
        self.crash()
        for pick, _ in enumerate(self.owed):
            self.deliver(pick, max_items=8192, batches=100_000, letters=0, is_cut=False)
        assert not any(owed.spans for owed in self.owed.values())
        self.statistics_agree_with_the_model()

    def teardown(self) -> None:
        if hasattr(self, "buffer"):
            if sys.exc_info()[0] is None:
                self.look_at_everything()
            self.run(self.buffer.close())
            self.disk.unregister()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.root)


def whole(row: int) -> OwedRange:
    return OwedRange(Position(row), Position(row + 1))


def is_same(one: BacklogName, other: BacklogName) -> bool:
    """Whether both are of one destination."""
    return one.destination == other.destination


def piece_of(numbers: list[int], size: int, encoding: Encoding, signal: Signal) -> Piece:
    """A piece whose items have these numbers as their ids; `size` bytes do not get smaller."""
    if signal is not TRACES:
        body = items_of(numbers, size, signal)
        if encoding is Encoding.JSON:
            body = transcode.to_json(body, signal)
        trace_ids = b"".join(map(trace_id, numbers))
        return Piece(encoding, body, len(numbers), trace_ids, ("shop",), signal=signal)
    filling = [builders.text_attribute("fill", noise(size, numbers[0]).hex())] if size else None
    made = builders.request(
        *(
            builders.span(
                spanId=f"{number:016x}", traceId=trace_id(number).hex(), attributes=filling
            )
            for number in numbers
        )
    )
    if encoding is Encoding.JSON:
        body = ",".join(json.dumps(entry) for entry in made["resourceSpans"]).encode()
    else:
        body = builders.protobuf_twin(made).SerializeToString()
    return Piece(encoding, body, len(numbers), b"".join(map(trace_id, numbers)), ("shop",))


def items_of(numbers: list[int], size: int, signal: Signal) -> bytes:
    """Log records or points in protobuf."""
    fill = KeyValue(key="fill", value=AnyValue(string_value=noise(size, numbers[0]).hex()))
    attributes = [fill] if size else []
    if signal is LOGS:
        logs = ExportLogsServiceRequest()
        for number in numbers:
            record = logs.resource_logs.add().scope_logs.add().log_records.add()
            record.span_id = number.to_bytes(8, "big")
            record.attributes.extend(attributes)
        return logs.SerializeToString()
    metrics = ExportMetricsServiceRequest()
    for number in numbers:
        metric = metrics.resource_metrics.add().scope_metrics.add().metrics.add(name="m")
        metric.gauge.data_points.add(as_int=number, time_unix_nano=1, attributes=attributes)
    return metrics.SerializeToString()


def ids_in(body: bytes, encoding: Encoding, signal: Signal) -> list[int]:
    """The numbers of the items of a fragment, in order."""
    if signal is METRICS:
        if encoding is Encoding.JSON:
            return [int(found) for found in re.findall(rb'"asInt": ?"([0-9]+)"', body)]
        return [
            point.as_int
            for entry in ExportMetricsServiceRequest.FromString(body).resource_metrics
            for scope in entry.scope_metrics
            for metric in scope.metrics
            for point in metric.gauge.data_points
        ]
    if signal is LOGS and encoding is Encoding.PROTOBUF:
        return [
            int.from_bytes(record.span_id, "big")
            for entry in ExportLogsServiceRequest.FromString(body).resource_logs
            for scope in entry.scope_logs
            for record in scope.log_records
        ]
    if encoding is Encoding.JSON:
        return [int(found, 16) for found in re.findall(rb'"spanId": ?"([0-9a-f]{16})"', body)]
    message = ExportTraceServiceRequest.FromString(body)
    return [
        int.from_bytes(span.span_id, "big")
        for entry in message.resource_spans
        for scope in entry.scope_spans
        for span in scope.spans
    ]


TestBufferModel = BufferModel.TestCase
TestBufferModel.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    print_blob=True,
    # No shrinking: what the threads do is not the same each time.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
