"""Builders for the buffer's tests: requests with defaults, a buffer that is closed, a deadline."""

import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio

from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite import high_water
from relay.buffer.sqlite.backlog import Backlog
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.high_water import LedgerCopy
from relay.buffer.sqlite.uptime import uptime_ns
from relay.model.counters import Counters
from relay.model.reasons import Reason
from relay.model.records import (
    DeadLetter,
    Encoding,
    Piece,
    RejectedItem,
    Request,
    Sender,
    Signal,
    Taken,
)

SETTINGS = BufferSettings(min_free_bytes=0, flush_seconds=0.02)
NOW_NS = 1_767_225_600_000_000_000
_numbers = itertools.count(1)


def trace_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not get smaller, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def piece(
    body: bytes | None = None,
    *,
    encoding: Encoding = Encoding.JSON,
    spans: int = 1,
    traces: tuple[int, ...] = (),
    signal: Signal = Signal.TRACES,
) -> Piece:
    number = next(_numbers)
    return Piece(
        encoding,
        b'{"n":%d}' % number if body is None else body,
        spans,
        b"".join(trace_id(each) for each in traces or (number,)),
        ("shop",),
        signal=signal,
    )


def request(
    *pieces: Piece,
    rejected: tuple[RejectedItem, ...] = (),
    received_ns: int = NOW_NS,
    agent: str = "sdk",
) -> Request:
    sender = Sender("192.0.2.7", user_agent=agent)
    return Request(pieces, sender, received_ns, rejected)


def rejected_span(trace: str = "0" * 32, body: bytes = b'{"bad":1}') -> RejectedItem:
    return RejectedItem(
        "trace_id_zero", "resourceSpans[0].scopeSpans[0].spans[0]", trace, Encoding.JSON, body
    )


def a_letter(trace: bytes, *, destination: str = "a", status: int = 400) -> DeadLetter:
    """Of an item of row 1 that its upstream refused."""
    return DeadLetter(
        destination,
        Reason.UPSTREAM_REFUSED,
        "no",
        1,
        Encoding.JSON,
        b"{}",
        status=status,
        affected=1,
        trace_ids=trace,
        row=1,
        received_ns=NOW_NS,
    )


class Clocks:
    """A wall clock that stands still until it is set, and an uptime that runs on by itself."""

    def __init__(self) -> None:
        self.now_ns = NOW_NS
        self.ahead_ns = 0

    def wall(self) -> int:
        return self.now_ns

    def uptime(self) -> int:
        return uptime_ns() + self.ahead_ns

    def pass_seconds(self, seconds: float) -> None:
        """Time passes: both go on."""
        self.now_ns += int(seconds * 1e9)
        self.ahead_ns += int(seconds * 1e9)


@asynccontextmanager
async def opened(
    state_dir: Path,
    settings: BufferSettings = SETTINGS,
    *,
    clock_ns: Callable[[], int] = lambda: NOW_NS,
    uptime: Callable[[], int] = uptime_ns,
    counters: Counters | None = None,
    vfs: str | None = None,
    **changes: object,
) -> AsyncIterator[Buffer]:
    settings = replace(settings, **changes)  # type: ignore[arg-type]
    buffer = Buffer(
        state_dir, settings, counters or Counters(), clock_ns=clock_ns, uptime=uptime, vfs=vfs
    )
    buffer.open()
    try:
        yield buffer
    finally:
        await buffer.close()


def change_ledger(state_dir: Path, change: Callable[[LedgerCopy], LedgerCopy]) -> None:
    """Let the sidecar in `state_dir` be as if `change` of its ledger had been written."""
    found = high_water.read(state_dir)
    assert found is not None
    assert found.ledger is not None
    stored = high_water.encode(change(found.ledger))
    line = (state_dir / high_water.FILE_NAME).read_bytes()[: high_water.LINE_BYTES]
    (state_dir / high_water.FILE_NAME).write_bytes(line + high_water.seal(line, stored) + stored)


def own_copy(state_dir: Path) -> None:
    """Let the sidecar of a copied directory be about the file beside it, as if it had moved."""
    if (state_dir / "relay.db").exists() and high_water.read(state_dir) is not None:
        inode = (state_dir / "relay.db").stat().st_ino
        change_ledger(state_dir, lambda ledger: replace(ledger, inode=inode))


async def take(
    backlog: Backlog,
    *,
    max_bytes: int = 1 << 22,
    max_items: int = 8192,
    one_encoding: bool = True,
) -> Taken:
    taken = await backlog.take(max_bytes=max_bytes, max_items=max_items, one_encoding=one_encoding)
    assert taken is not None
    return taken


async def take_all(backlog: Backlog) -> list[bytes]:
    """Bodies of everything owed; it is given back."""
    held: list[Taken] = []
    while (taken := await backlog.take(max_bytes=1 << 22, max_items=8192)) is not None:
        held.append(taken)
    for taken in held:
        backlog.give_back(taken)
    return [row.body for taken in held for row in taken.rows]


async def deliver_all(backlog: Backlog, *, status: int = 200, at_ns: int = NOW_NS) -> int:
    """Settle everything that is owed; returns the spans."""
    spans = 0
    while (taken := await backlog.take(max_bytes=1 << 22, max_items=8192)) is not None:
        backlog.settle(taken, status=status, at_ns=at_ns)
        spans += taken.items
    return spans


async def eventually(is_so: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until `is_so`: for what the writer's thread does in its own time."""
    with anyio.fail_after(seconds):
        while not is_so():  # noqa: ASYNC110 - another thread's state, which has no event
            await anyio.sleep(0.005)
