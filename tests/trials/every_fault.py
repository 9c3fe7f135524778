"""The n-th write or sync of a short run fails, for every n: nothing acknowledged is lost.

A buffer in this process on `faulty_vfs`. Afterwards the disk is what a power loss would leave, and
is opened anew. The run is the same each time; how many writes and syncs it has is counted first.
"""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import anyio.lowlevel

from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite import schema
from relay.buffer.sqlite import writer as writer_module
from relay.buffer.sqlite.backlog import Backlog
from relay.buffer.sqlite.buffer import Buffer
from relay.model.counters import Counters
from relay.model.errors import BufferFailure
from relay.model.records import DeadLetter, Encoding, Piece, Request, Sender, Signal
from tests.support.faulty_vfs import Fault, FaultyVFS
from tests.support.load import ids_in
from tests.trials.rows import Fate, Row, judge

SETTINGS = BufferSettings(
    min_free_bytes=0,
    row_bytes=4096,
    tail_bytes=8192,
    wal_checkpoint_bytes=64 * 1024,
    wal_truncate_bytes=128 * 1024,
    keep_delivered_seconds=0.0,
    flush_seconds=0.01,
)
ROUNDS = 10
RECOVERY_SECONDS = 10.0
_disks = itertools.count()


@dataclass
class Claims:
    """What the run promised."""

    settings: BufferSettings = SETTINGS
    acknowledged: set[str] = field(default_factory=set)
    settled: dict[str, list[str]] = field(default_factory=lambda: {"quick": [], "slow": []})
    dead: dict[str, str] = field(default_factory=dict)  # of `quick`: id and the letter's words
    refused: int = 0
    problems: list[str] = field(default_factory=list)


@contextmanager
def quick_probes() -> Iterator[None]:
    """Look every 20 ms whether the disk is back, instead of every second."""
    before = writer_module._PROBE_SECONDS
    writer_module._PROBE_SECONDS = 0.02
    try:
        yield
    finally:
        writer_module._PROBE_SECONDS = before


def id_of(number: int) -> str:
    """Of the only item of the `number`-th request: each signal by turns."""
    return f"{Signal(number % len(Signal) + 1).word}-{number:016x}"


def request_of(number: int, size: int) -> Request:
    fill = b"%d" % number * size
    body = b'{"id":"%s","fill":"%s"}' % (id_of(number).encode(), fill[:size])
    signal = Signal(number % len(Signal) + 1)
    piece = Piece(Encoding.JSON, body, 1, number.to_bytes(16, "big"), ("trial",), signal=signal)
    return Request((piece,), Sender("127.0.0.1"), time.time_ns())


async def open_buffer(
    directory: Path, disk: FaultyVFS | None, settings: BufferSettings = SETTINGS
) -> Buffer:
    """As a supervisor would: again, until it opens."""
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        buffer = Buffer(
            directory, settings, Counters(), vfs=disk.vfs_name if disk is not None else None
        )
        try:
            buffer.open()
            return buffer
        except BufferFailure:
            if time.monotonic() > deadline:
                raise
            await anyio.sleep(0.01)


async def append(buffer: Buffer, numbers: Iterator[int], size: int, claims: Claims) -> None:
    """Until one is taken: each try is a request of its own, since nothing is said of a refused."""
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        number = next(numbers)
        try:
            await buffer.append(request_of(number, size))
        except BufferFailure:
            claims.refused += 1
            if time.monotonic() > deadline:
                claims.problems.append(f"it does not recover: {buffer.statistics().last_error}")
                return
            await anyio.sleep(0.01)
        else:
            claims.acknowledged.add(id_of(number))
            return


async def deliver(backlog: Backlog, claims: Claims, *, kills: bool = False) -> None:
    try:
        taken = await backlog.take(max_bytes=8192, max_items=5)
    except BufferFailure:
        return
    if taken is None:
        return
    ids = [each for row in taken.rows for each in ids_in(row.body)]
    letters = []
    if kills:
        words = f"refused {ids[0]}"
        claims.dead.update(dict.fromkeys(ids, words))
        body = taken.rows[0].body
        letters = [DeadLetter(backlog.name, "upstream_refused", words, 1, Encoding.JSON, body)]
    else:
        claims.settled[backlog.name] += ids
    backlog.settle_with(taken, letters, status=400 if kills else 200, at_ns=time.time_ns())


def backlogs_of(buffer: Buffer, name: str) -> list[Backlog]:
    """What a destination is owed, of each signal."""
    return [buffer.consumer(name, signal=signal) for signal in Signal]


async def run(directory: Path, disk: FaultyVFS, claims: Claims) -> None:
    """The short run, and then the crash: `directory`-crashed is what is left of the disk."""
    buffer = await open_buffer(directory, disk, claims.settings)
    numbers = itertools.count(1)
    try:
        quick, slow = backlogs_of(buffer, "quick"), backlogs_of(buffer, "slow")
        for turn in range(ROUNDS):
            async with asyncio.TaskGroup() as together:
                for size in (50, 3000, 9000):
                    together.create_task(append(buffer, numbers, size, claims))
            for backlog in quick:
                await deliver(backlog, claims, kills=turn == 4)
            for backlog in slow if turn > 5 else []:
                await deliver(backlog, claims)
            await anyio.lowlevel.checkpoint()
        await append(buffer, numbers, 10, claims)  # it takes items again by itself
        for backlog in (*quick, *slow):
            await compare_sums(backlog, claims)
        disk.copy_disk(directory, directory.with_name(directory.name + "-crashed"))
        claims.problems += set_aside(directory)
    finally:
        await buffer.close()


def set_aside(directory: Path) -> list[str]:
    """A sentence for each file that was taken for damaged: none was."""
    return [f"set aside: {path.name}" for path in directory.glob("relay.db.*")]


async def read_all(backlog: Backlog) -> list[str]:
    """Every id that is owed; each body must be whole."""
    held, found = [], []
    while (taken := await backlog.take(max_bytes=1 << 20, max_items=8192)) is not None:
        held.append(taken)
        for row in taken.rows:
            ids = ids_in(row.body)
            if len(ids) != row.items:
                raise AssertionError(f"row {row.row} is not what was written")
            found += ids
    for taken in held:
        backlog.give_back(taken)
    return found


async def compare_sums(backlog: Backlog, claims: Claims) -> None:
    found = await read_all(backlog)
    told = backlog.statistics().owed_items
    if told != len(found):
        claims.problems.append(f"{backlog.name}: says it is owed {told}, and is {len(found)}")


async def check(directory: Path, claims: Claims) -> Row:
    """Open what the crash left: what was promised is there."""
    buffer = await open_buffer(directory, None)
    try:
        letters = {each.letter.words for each in await buffer.dead_letters.newest(10_000)}
        fates = {}
        for name in ("quick", "slow"):
            settled = claims.settled[name]
            # What was settled and is owed again comes again: that is allowed, once.
            fates[name] = Fate(list(settled), may_repeat=settled)
            for backlog in backlogs_of(buffer, name):
                await compare_sums(backlog, claims)
                fates[name].arrived += await read_all(backlog)
        fates["quick"].dead = {
            number: words for number, words in claims.dead.items() if words in letters
        }
        claims.problems += set_aside(directory)
        return judge("", claims.acknowledged, fates, claims.problems)
    finally:
        await buffer.close()


def one(fault: Fault | None, *, seed: int, survival: float = 0.0) -> tuple[Row, FaultyVFS]:
    """One run with one fault; the row, and the disk with its counts."""
    disk = FaultyVFS(
        f"every-{next(_disks)}",
        seed=seed,
        survival=survival,
        faults=() if fault is None else (fault,),
    )
    # What a sync forgot comes to light where no checkpoint has written it by another way.
    is_patient = fault is not None and fault.forgets
    claims = Claims(replace(SETTINGS, wal_checkpoint_bytes=1 << 30) if is_patient else SETTINGS)

    async def both(directory: Path) -> Row:
        await run(directory, disk, claims)
        return await check(directory.with_name(directory.name + "-crashed"), claims)

    with tempfile.TemporaryDirectory(prefix="every-fault-") as folder, quick_probes():
        try:
            row = asyncio.run(both(Path(folder) / "state"))
        except Exception as error:  # noqa: BLE001 - one fault must not hide what the others do
            row = judge("", (), {}, [f"{type(error).__name__}: {error}"])
        finally:
            disk.unregister()
    if fault is None:
        return row, disk
    problems = tuple(f"{fault}: {problem}" for problem in row.problems)
    return replace(row, problems=problems), disk


def faults(writes: int, syncs: int, *, stride: int, first: int = 1) -> Iterator[Fault]:
    """Every fault of a run with so many writes and syncs, or each `stride`-th of them."""
    for n in range(first, writes + 1, stride):
        yield Fault("write", n)
        yield Fault("write", n, times=6, error="full")
    for n in range(1 + (first - 1) % max(stride // 4, 1), syncs + 1, max(stride // 4, 1)):
        yield Fault("sync", n)
        yield Fault("sync", n, times=3)
        yield Fault("sync", n, forgets=True)


def trial(*, seed: int, stride: int = 1, seconds: float = 3600.0) -> Row:
    """Every fault, or each `stride`-th; at most so many seconds."""
    name = "n-th write or sync fails"
    total, disk = one(None, seed=seed)
    total = Row(name) + total
    deadline = time.monotonic() + seconds
    for fault in faults(
        disk.counts["write"], disk.counts["sync"], stride=stride, first=1 + seed % stride
    ):
        if time.monotonic() > deadline:
            break
        total += one(fault, seed=seed, survival=0.3 if fault.n % 2 else 0.0)[0]
    return total


def without_sync(*, seed: int) -> Row:
    """The run without any fault, and without fsync: power loss must show."""
    before = schema.SYNCHRONOUS["full"]
    schema.SYNCHRONOUS["full"] = 0
    try:
        return one(None, seed=seed)[0]
    finally:
        schema.SYNCHRONOUS["full"] = before
