"""The heads of a WAL's frames in, how many of them belong together out: SQLite is not asked.

SQLite takes a WAL up to the first frame whose checksum is wrong. The heads alone tell how far it
went when the process ended. Format: https://www.sqlite.org/fileformat2.html#walformat.
"""

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from relay.buffer.sqlite.private_files import open_private
from relay.buffer.sqlite.schema import PAGE_BYTES

HEAD_BYTES = 32
FRAME_HEAD_BYTES = 24
FRAME_BYTES = FRAME_HEAD_BYTES + PAGE_BYTES


class Frame(NamedTuple):
    """The head of a frame of the WAL."""

    page: int
    commit_pages: int  # size of the database after it, if it ends a transaction; else 0
    salt: bytes


def read_frames(descriptor: int) -> list[Frame]:
    """The heads of all frames of an open WAL. Raises OSError."""
    frames = []
    for at in range((os.fstat(descriptor).st_size - HEAD_BYTES) // FRAME_BYTES):
        head = read_at(descriptor, FRAME_HEAD_BYTES, HEAD_BYTES + at * FRAME_BYTES)
        page, commit_pages = struct.unpack_from(">II", head)
        frames.append(Frame(page, commit_pages, head[8:16]))
    return frames


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
    try:
        descriptor = open_private(wal, os.O_RDONLY)
    except FileNotFoundError:
        return 0
    try:
        salt = read_at(descriptor, HEAD_BYTES, 0)[16:24]
        frames = read_frames(descriptor)
        return last_commit(frames, generation_frames(frames, salt))
    finally:
        os.close(descriptor)


def read_at(descriptor: int, size: int, at: int) -> bytes:
    """What can be read: on a bad sector zeros, page by page, so that the rest is still found."""
    try:
        return os.pread(descriptor, size, at)
    except OSError:
        if size <= PAGE_BYTES:
            return bytes(size)
        return b"".join(
            read_at(descriptor, PAGE_BYTES, at + offset) for offset in range(0, size, PAGE_BYTES)
        )
