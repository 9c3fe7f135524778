"""The heads of a WAL's frames in, how many of them belong together out: SQLite is not asked.

SQLite takes a WAL up to the first frame whose checksum is wrong. The heads alone tell how far it
went when the process ended. Format: https://www.sqlite.org/fileformat2.html#walformat.
"""

import os
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from relay.buffer.sqlite.schema import PAGE_BYTES

HEAD_BYTES = 32
FRAME_HEAD_BYTES = 24
FRAME_BYTES = FRAME_HEAD_BYTES + PAGE_BYTES


class Frame(NamedTuple):
    """The head of a frame of the WAL."""

    page: int
    commit_pages: int  # size of the database after it, if it ends a transaction; else 0
    salt: bytes


def read_frame(head: bytes) -> Frame:
    """The first FRAME_HEAD_BYTES of a frame."""
    page, commit_pages = struct.unpack_from(">II", head)
    return Frame(page, commit_pages, head[8:16])


def frames_in(size: int) -> int:
    """How many frames a WAL of so many bytes holds."""
    return max(0, size - HEAD_BYTES) // FRAME_BYTES


def generation_frames(frames: Sequence[Frame], wal_salt: bytes) -> int:
    """How many frames were written since the WAL last began anew, by their salts alone.

    `wal_salt` is what the WAL's own head says, which may be hit.
    """
    salts = [frame.salt for frame in frames]
    if not salts:
        return 0
    # The header and any frame may be hit: what most of the first few say holds.
    first = salts[:3]
    salt = max(first, key=first.count)
    if salts.count(wal_salt):
        salt = wal_salt
    last = len(salts) - 1
    while salts[last] != salt:
        last -= 1
    return last + 1


def last_commit(frames: Sequence[Frame], count: int) -> int:
    """How many of the first `count` frames end in a commit."""
    while count and not frames[count - 1].commit_pages:
        count -= 1
    return count


def frames_of_generation(wal: Path) -> int:
    """How many frames of a WAL belong together and end in a commit, by their heads alone: what
    SQLite should find. Takes 1 ms a thousand frames. Raises OSError.
    """
    with suppress(FileNotFoundError), wal.open("rb") as file:
        salt = _pread(file.fileno(), HEAD_BYTES, 0)[16:24]
        frames = [
            read_frame(_pread(file.fileno(), FRAME_HEAD_BYTES, HEAD_BYTES + at * FRAME_BYTES))
            for at in range(frames_in(os.fstat(file.fileno()).st_size))
        ]
        return last_commit(frames, generation_frames(frames, salt))
    return 0


def _pread(descriptor: int, size: int, at: int) -> bytes:
    """What can be read; on a bad sector zeros, which is the head of no frame."""
    try:
        return os.pread(descriptor, size, at)
    except OSError:
        return bytes(size)
