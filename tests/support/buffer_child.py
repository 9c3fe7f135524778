"""A process to be killed: appends to a buffer and prints the ids that were acknowledged.

`python -m tests.support.buffer_child STATE_DIR FIRST plain|forgetful|tearing full|normal|off`.
Each line of output is the number of a request whose append returned. One destination takes and
settles meanwhile and prints `s N` for what it settles, before it does.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

import anyio

from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite import schema
from relay.buffer.sqlite.backlog import Backlog
from relay.buffer.sqlite.buffer import Buffer
from relay.model.counters import Counters
from relay.model.records import Encoding, Piece, Request, Sender, Signal
from tests.support import faulty_vfs


def request(number: int) -> Request:
    """A request that can be told from all others by its body."""
    body = b'{"n":%d,"fill":"%s"}' % (number, os.urandom(200).hex().encode())
    signal = Signal(1 + number // 8 % 3)
    piece = Piece(Encoding.JSON, body, 1, number.to_bytes(16, "big"), ("child",), signal=signal)
    return Request((piece,), Sender("127.0.0.1", is_local=True), time.time_ns())


async def deliver(backlog: Backlog) -> None:
    while True:
        await backlog.wait()
        taken = await backlog.take(max_bytes=4096, max_items=50, one_encoding=True)
        if taken is None:
            continue
        for row in taken.rows:
            for text in row.body.decode().split('"n":')[1:]:
                os.write(1, b"s %s\n" % text.split(",")[0].encode())
        backlog.settle(taken, status=200, at_ns=time.time_ns())


async def append(buffer: Buffer, start: int, step: int) -> None:
    number = start
    while True:
        await buffer.append(request(number))
        # The number is a claim: from here on a kill must not lose it.
        os.write(1, b"%d\n" % number)
        number += step


async def main(state_dir: Path, first: int, vfs: str | None, sync: str) -> None:
    settings = BufferSettings(
        sync="normal" if sync == "normal" else "full",
        min_free_bytes=0,
        # Checkpoints sync, so a test that wants to see a loss must do without them.
        wal_checkpoint_bytes=1 << 30 if sync == "normal" else 128 * 1024,
        wal_truncate_bytes=512 * 1024,
        keep_delivered_seconds=0.5,
    )
    buffer = Buffer(state_dir, settings, Counters(), vfs=vfs)
    buffer.open()
    backlogs = [buffer.consumer("child", signal=signal) for signal in Signal]
    for signal in Signal:
        buffer.consumer("keeper", signal=signal)
    async with anyio.create_task_group() as tasks:
        for start in range(8):
            tasks.start_soon(append, buffer, first + start, 8)
        for backlog in backlogs:
            tasks.start_soon(deliver, backlog)


if __name__ == "__main__":
    directory, first_number, disk, sync_setting = sys.argv[1:]
    if sync_setting == "off":
        schema.SYNCHRONOUS["full"] = 0
    survival = {"forgetful": 0.0, "tearing": 0.5}.get(disk)
    kept = None if survival is None else faulty_vfs.FaultyVFS(seed=os.getpid(), survival=survival)
    name = faulty_vfs.NAME if kept else None
    asyncio.run(main(Path(directory), int(first_number), name, sync_setting))
