"""Reads the records on the pages of a database file and its WAL: without SQLite, and read-only.

SQLite gives up a table where a page of its tree is damaged, and everything behind it. Here every
page is looked at by itself, so what the damage did not touch is found whatever is around it. What
is found is only a claim: whoever takes a record must compare its checksum.

Format: https://www.sqlite.org/fileformat2.html. Our files have pages of 4 KiB, none reserved.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from relay.buffer.sqlite.private_files import open_private
from relay.buffer.sqlite.schema import PAGE_BYTES
from relay.buffer.sqlite.wal import (
    FRAME_BYTES,
    FRAME_HEAD_BYTES,
    HEAD_BYTES,
    generation_frames,
    last_commit,
    read_at,
    read_frames,
)

MAX_PAYLOAD_BYTES = 128 * 1024 * 1024
TABLE_LEAF, TABLE_INNER, INDEX_LEAF, INDEX_INNER = 13, 5, 10, 2
_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}
_MASK = 0xFFFFFFFF
_BLOCK_PAGES = 256

Value = int | float | bytes | str | None


class Leaf(NamedTuple):
    """A page in one of its versions: of the database (`frame` -1), or as a frame of the WAL."""

    page: int
    frame: int


class Cell(NamedTuple):
    """A record as its page tells of it; its end may lie on other pages."""

    rowid: int  # of a table; 0 of an index
    size: int
    inline: bytes
    overflow: int  # first of the other pages; 0: there is none

    @property
    def columns(self) -> int:
        """How many values the record has; 0 when its head cannot be read."""
        try:
            return len(column_kinds(self.inline))
        except ValueError:
            return 0


class PageFiles(AbstractContextManager["PageFiles"]):
    """The two files, open inside `with`; either may be absent. Raises OSError from every method.

    `live` is what SQLite sees, page by page: the frames up to the last commit before the first
    frame whose checksum is wrong. `committed` goes on behind that frame, where there is damage.
    """

    def __init__(self, database: Path, wal: Path) -> None:
        self._database = _open(database)
        self._wal = _open(wal)
        self.page_count = _size(self._database) // PAGE_BYTES
        # A last page that was cut short is a page, too: what is on its first half is whole.
        self.page_count += bool(_size(self._database) % PAGE_BYTES)
        self.frames = read_frames(self._wal) if self._wal >= 0 else []
        self.live = self._newest(self._valid_frames())
        salt = _pread(self._wal, HEAD_BYTES, 0)[16:24]
        generation = generation_frames(self.frames, salt)
        self.committed = self._newest(last_commit(self.frames, generation))

    def __exit__(self, *error: object) -> None:
        for descriptor in (self._database, self._wal):
            if descriptor >= 0:
                os.close(descriptor)

    # -- pages --------------------------------------------------------------------------------

    def read(self, leaf: Leaf) -> bytes:
        """That page in that version; short of bytes it ends in zeros."""
        if leaf.frame < 0:
            content = _pread(self._database, PAGE_BYTES, (leaf.page - 1) * PAGE_BYTES)
        else:
            at = HEAD_BYTES + leaf.frame * FRAME_BYTES + FRAME_HEAD_BYTES
            content = _pread(self._wal, PAGE_BYTES, at)
        return content.ljust(PAGE_BYTES, b"\0")

    def versions(self, page: int) -> list[Leaf]:
        """Every version of a page: the last that was committed, then from newest to oldest."""
        frames = [at for at, frame in enumerate(self.frames) if frame.page == page]
        found = [Leaf(page, at) for at in reversed(frames)]
        if page <= self.page_count:
            found.append(Leaf(page, -1))
        first = Leaf(page, self.committed.get(page, -1))
        if first in found:
            found.remove(first)
            found.insert(0, first)
        return found

    def leaves(self, *, is_live: bool) -> Iterator[tuple[Leaf, bytes]]:
        """Every page as SQLite sees it; or every version that it does not see."""
        for first in range(1, self.page_count + 1, _BLOCK_PAGES):
            block = _pread(self._database, _BLOCK_PAGES * PAGE_BYTES, (first - 1) * PAGE_BYTES)
            for at in range(0, len(block), PAGE_BYTES):
                leaf = Leaf(first + at // PAGE_BYTES, -1)
                if (leaf.page not in self.live) is is_live:
                    yield leaf, block[at : at + PAGE_BYTES].ljust(PAGE_BYTES, b"\0")
        for at, frame in enumerate(self.frames):
            if (self.live.get(frame.page) == at) is is_live:
                leaf = Leaf(frame.page, at)
                yield leaf, self.read(leaf)

    def free_pages(self) -> set[int]:
        """Pages that SQLite holds for empty, as far as that list can be followed."""
        free: set[int] = set()
        if not self.page_count and 1 not in self.live:
            return free
        head = self.read(Leaf(1, self.live.get(1, -1)))
        trunk = int.from_bytes(head[32:36], "big")
        while trunk and trunk not in free and trunk <= max(self.page_count, *self.live, 1):
            free.add(trunk)
            content = self.read(Leaf(trunk, self.live.get(trunk, -1)))
            following, count = struct.unpack_from(">II", content)
            count = min(count, PAGE_BYTES // 4 - 2)
            free.update(struct.unpack_from(f">{count}I", content, 8))
            trunk = following
        return free

    # -- records ------------------------------------------------------------------------------

    def payloads(self, cell: Cell) -> Iterator[bytes]:
        """What the cell's record may be, likeliest first: its other pages as they stand now, as
        they stand behind the damage in the WAL, and as they stand in the database alone.
        """
        if not cell.overflow:
            yield cell.inline
            return
        seen: set[bytes] = set()
        for view in (self.live, self.committed, {}):
            payload = self._follow(cell, view)
            if payload is not None and payload not in seen:
                seen.add(payload)
                yield payload

    def records(self, cell: Cell) -> Iterator[list[Value]]:
        """The values of each of its `payloads` that is a record."""
        for payload in self.payloads(cell):
            try:
                values = record(payload)
            except ValueError:
                continue
            yield values

    def _follow(self, cell: Cell, view: dict[int, int]) -> bytes | None:
        pieces, missing, page = [cell.inline], cell.size - len(cell.inline), cell.overflow
        while missing > 0:
            leaf = Leaf(page, view.get(page, -1))
            if page < 1 or (leaf.frame < 0 and page > self.page_count):
                return None
            content = self.read(leaf)
            page = int.from_bytes(content[:4], "big")
            pieces.append(content[4 : 4 + missing])
            missing -= len(pieces[-1])
        return b"".join(pieces)

    # -- the WAL ------------------------------------------------------------------------------

    def _newest(self, count: int) -> dict[int, int]:
        return {frame.page: at for at, frame in enumerate(self.frames[:count])}

    def _valid_frames(self) -> int:
        """How many frames SQLite takes: up to the last commit before the first wrong checksum."""
        head = _pread(self._wal, HEAD_BYTES, 0)
        if len(head) < HEAD_BYTES:
            return 0
        magic, _, page_bytes = struct.unpack_from(">III", head)
        order = _MAGIC.get(magic)
        if order is None or page_bytes != PAGE_BYTES:
            return 0
        sums = _sum(order, head[:24], (0, 0))
        if sums != struct.unpack_from(">II", head, 24):
            return 0
        valid = 0
        for at, frame in enumerate(self.frames):
            content = _pread(self._wal, FRAME_BYTES, HEAD_BYTES + at * FRAME_BYTES)
            if frame.salt != head[16:24] or not frame.page:
                break
            sums = _sum(order, content[:8], sums)
            sums = _sum(order, content[FRAME_HEAD_BYTES:], sums)
            if sums != struct.unpack_from(">II", content, 16):
                break
            if frame.commit_pages:
                valid = at + 1
        return valid


def _open(path: Path) -> int:
    try:
        return -1 if path.is_dir() else open_private(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return -1


def _size(descriptor: int) -> int:
    return os.fstat(descriptor).st_size if descriptor >= 0 else 0


def _pread(descriptor: int, size: int, at: int) -> bytes:
    return read_at(descriptor, size, at) if descriptor >= 0 else b""


def _sum(order: str, content: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    words = struct.unpack(f"{order}{len(content) // 4}I", content)
    first, second = sums
    for at in range(0, len(words), 2):
        first = (first + words[at] + second) & _MASK
        second = (second + words[at + 1] + first) & _MASK
    return first, second


# -- pages and records as values --------------------------------------------------------------


def varint(content: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends. Raises IndexError past the end."""
    value = 0
    for place in range(at, at + 8):
        byte = content[place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + 1
    value = value << 8 | content[at + 8]
    return (value - (1 << 64) if value >= 1 << 63 else value), at + 9


def page_kind(page: int, content: bytes) -> int:
    """The byte that says what the page is; page 1 begins with the file's header."""
    return content[100] if page == 1 else content[0]


def cells(page: int, content: bytes) -> Iterator[Cell]:
    """The records that a page of a tree holds; what is not readable of it is left out."""
    kind = page_kind(page, content)
    if kind not in (TABLE_LEAF, INDEX_LEAF, INDEX_INNER):
        return
    for pointer in _pointers(page, content):
        try:
            cell = _cell(content, pointer + (4 if kind == INDEX_INNER else 0), kind)
        except IndexError:
            continue
        if cell is not None:
            yield cell


def children(page: int, content: bytes) -> list[int]:
    """The pages below an inner page, in order."""
    if page_kind(page, content) not in (TABLE_INNER, INDEX_INNER):
        return []
    last = 108 if page == 1 else 8
    places = (*_pointers(page, content), last)
    return [int.from_bytes(content[place : place + 4], "big") for place in places]


def _pointers(page: int, content: bytes) -> list[int]:
    """Where the cells of a page of a tree begin."""
    start = 100 if page == 1 else 0
    first = start + (12 if content[start] in (TABLE_INNER, INDEX_INNER) else 8)
    count = min(int.from_bytes(content[start + 3 : start + 5], "big"), (PAGE_BYTES - first) // 2)
    found = struct.unpack_from(f">{count}H", content, first)
    return [pointer for pointer in found if pointer >= first]


def _cell(content: bytes, at: int, kind: int) -> Cell | None:
    size, at = varint(content, at)
    rowid = 0
    if kind == TABLE_LEAF:
        rowid, at = varint(content, at)
    return cell_at(content, at, rowid, size, is_table=kind == TABLE_LEAF)


def cell_at(
    content: bytes, at: int, rowid: int, size: int, *, is_table: bool = True
) -> Cell | None:
    """The record of `size` bytes that begins at `at` of a page; None when it cannot be one."""
    if not 0 < size <= MAX_PAYLOAD_BYTES:
        return None
    most = PAGE_BYTES - 35 if is_table else (PAGE_BYTES - 12) * 64 // 255 - 23
    local = size
    if size > most:
        least = (PAGE_BYTES - 12) * 32 // 255 - 23
        local = least + (size - least) % (PAGE_BYTES - 4)
        if local > most:
            local = least
    end = at + local
    if end + (4 if local < size else 0) > PAGE_BYTES:
        return None
    overflow = int.from_bytes(content[end : end + 4], "big") if local < size else 0
    return Cell(rowid, size, content[at:end], overflow)


_SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)


def serial_size(kind: int) -> int:
    """How many bytes a value of this serial type has. Raises ValueError for the reserved ones."""
    if kind >= 12:
        return (kind - 12) // 2
    if kind < 0 or kind > 9:
        raise ValueError("reserved serial type")
    return _SIZES[kind]


def column_kinds(payload: bytes) -> list[int]:
    """The serial types of a record, by its header alone. Raises ValueError when it is none."""
    try:
        end, at = varint(payload, 0)
        if end > len(payload):
            raise ValueError("the header is longer than the record")
        kinds = []
        while at < end:
            kind, at = varint(payload, at)
            kinds.append(kind)
    except IndexError:
        raise ValueError("the header is cut") from None
    return kinds


def record(payload: bytes) -> list[Value]:
    """The values of a record. Raises ValueError when the bytes are not those of one."""
    kinds = column_kinds(payload)
    at, _ = varint(payload, 0)
    values: list[Value] = []
    for kind in kinds:
        size = serial_size(kind)
        piece = payload[at : at + size]
        if len(piece) != size:
            raise ValueError("the record is cut")
        at += size
        if kind == 0:
            values.append(None)
        elif kind in (8, 9):
            values.append(kind - 8)
        elif kind == 7:
            values.append(struct.unpack(">d", piece)[0])
        elif kind < 7:
            values.append(int.from_bytes(piece, "big", signed=True))
        elif kind % 2:
            values.append(piece.decode("utf-8"))
        else:
            values.append(piece)
    return values
