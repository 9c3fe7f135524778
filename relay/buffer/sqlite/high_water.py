"""Keeps beside the file what a file that is damaged could not tell: its end, and whom it owes what.

`state_dir/last-row` is a line and a ledger. The line says how far the file went: when it is ahead
of the file, rows that were acknowledged are not in it any more, because its WAL was lost or an
older copy was put in its place. It is written with every commit, not synced, and a commit behind
the file at worst.

The ledger is a copy of table `destinations`, with the counts that must outlive a file and what is
being read back into it. It is read only when the file is quarantined, and holds one promise: **it
owes at least what the table owes**. So what is owed in addition is synced here before the table is
committed (`promise`); what is owed no more is left out some seconds later (`keep`): a copy that is
behind sends twice. Without a good copy everything is owed to everybody.

The line begins the file, 120 characters and a newline, as versions without a ledger wrote it and
read it. Behind it stand a CRC-32 over the line and the ledger (8 hex digits, a newline) and the
ledger, in msgpack with its version first. A version that writes the line alone thereby invalidates
a ledger that it does not keep.
"""

import os
import time
import zlib
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from relay.buffer import owed_ranges
from relay.buffer.backlog_name import backlog_name
from relay.buffer.sqlite.private_files import open_new, open_private, read_private
from relay.buffer.sqlite.schema import sync_directory
from relay.buffer.sqlite.types import Persisted, Totals

FILE_NAME = "last-row"
LAZY_SECONDS = 5.0
_VERSION = 1
LINE_BYTES = 121  # it is overwritten whole, in one system call
_SEAL_BYTES = 9
_NO_SEAL = b" " * (_SEAL_BYTES - 1) + b"\n"


@dataclass(frozen=True, slots=True)
class LedgerCopy:
    """Whom a file owes what, and what else must outlive it."""

    destinations: Mapping[str, Persisted] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    salvages: Mapping[str, bytes] = field(default_factory=dict)  # as in the table of that name
    inode: int = 0  # of the file

    def is_of(self, database: Path) -> bool:
        """Whether that is the file, whatever it is called by now."""
        try:
            return database.stat().st_ino == self.inode
        except OSError:
            return False


class _Stored(msgspec.Struct, array_like=True, frozen=True):
    version: int
    inode: int
    destinations: dict[str, tuple[bool, bytes]]
    counts: dict[str, int]
    salvages: dict[str, bytes]


_pack = msgspec.msgpack.Encoder(order="deterministic").encode
_unpack = msgspec.msgpack.Decoder(_Stored).decode


def encode(ledger: LedgerCopy) -> bytes:
    """The ledger as it is on disk."""
    return _pack(
        _Stored(
            _VERSION,
            ledger.inode,
            {
                name: (each.is_paused, owed_ranges.encode(each.ranges))
                for name, each in ledger.destinations.items()
            },
            dict(ledger.counts),
            dict(ledger.salvages),
        )
    )


def _decode(stored: bytes) -> LedgerCopy | None:
    try:
        found = _unpack(stored)
        if found.version != _VERSION:
            return None
        destinations = {
            name: Persisted(owed_ranges.decode(ranges), is_paused)
            for name, (is_paused, ranges) in found.destinations.items()
        }
    except (ValueError, msgspec.MsgspecError):
        return None
    return LedgerCopy(destinations, found.counts, found.salvages, found.inode)


@dataclass(frozen=True, slots=True)
class HighWater:
    """What `last-row` says: the last row, the sums up to it, which destinations there are."""

    row: int
    totals: Totals
    destinations: int = 0
    names: int = 0  # CRC-32 of their names
    ledger: LedgerCopy | None = None

    def misses(self, names: Iterable[str]) -> bool:
        """Whether `names` cannot be all destinations. New ones may be ahead of the line."""
        found = _claimed(names)
        is_other = len(found) == self.destinations and _names(found) != self.names
        return len(found) < self.destinations or is_other


def _claimed(names: Iterable[str]) -> list[str]:
    """Those of destinations: what nobody claims is another's from one commit to the next."""
    return [name for name in names if backlog_name(name).is_claimed]


def _names(names: Iterable[str]) -> int:
    return zlib.crc32("\0".join(sorted(names)).encode("utf-8", "surrogatepass"))


def read(directory: Path) -> HighWater | None:
    """What the file in `directory` says; None when there is none, or its line is damaged."""
    try:
        content = read_private(directory / FILE_NAME)
        line = content[:LINE_BYTES].decode("ascii").strip()
        checksum, *numbers = line.split(" ")
        if int(checksum, 16) != zlib.crc32(" ".join(numbers).encode()):
            return None
        row, rows, items, raw_bytes, destinations, names = map(int, numbers)
    except (OSError, ValueError):
        return None
    stored = _sealed(content)
    ledger = _decode(stored) if stored else None
    return HighWater(row, Totals(rows, items, raw_bytes), destinations, names, ledger)


def _sealed(content: bytes) -> bytes:
    """The ledger's bytes in the content of a file, if they and the line are as written."""
    line, rest = content[:LINE_BYTES], content[LINE_BYTES:]
    stored = rest[_SEAL_BYTES:]
    return stored if stored and rest[:_SEAL_BYTES] == seal(line, stored) else b""


def seal(line: bytes, ledger: bytes) -> bytes:
    """What stands between the two: they are as written, and belong together."""
    return _seal(line, zlib.crc32(ledger)) if ledger else _NO_SEAL


def _seal(line: bytes, ledger_crc: int) -> bytes:
    return b"%08x\n" % zlib.crc32(line, ledger_crc)


class HighWaterFile:
    """The file, kept open by the one who writes. Only `promise` raises: OSError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / FILE_NAME
        self._descriptor = -1
        self._written = ""
        self._line = b""
        self._known: tuple[str, ...] | None = None
        self._end = ""  # of the line: about these destinations
        self._inode = 0
        self._ledger: LedgerCopy | None = None  # as it is on disk; None: none that counts
        self._stored = b""  # the same, in bytes
        self._stored_crc = 0  # of a ledger that is long it takes longer than the rest of a line
        self._is_behind = False  # the table has changed since the ledger was written
        self._next_keep = 0.0  # monotonic

    def read(self) -> HighWater | None:
        """What it says: None when there is none, or its line is damaged."""
        return read(self._directory)

    def begin(self, database: Path, row: int, totals: Totals, ledger: LedgerCopy) -> None:
        """From now on it is about `database`, which was just opened: synced, if it is news."""
        self._inode = database.stat().st_ino
        ledger = replace(ledger, inode=self._inode)
        self._ledger, self._stored, self._written = None, b"", ""
        with suppress(OSError):
            stored = encode(ledger)
            if _sealed(read_private(self._path)) == stored:
                self._ledger, self._stored, self._stored_crc = ledger, stored, zlib.crc32(stored)
        self.write(row, totals, ledger.destinations)
        if self._ledger is None:
            self.keep(ledger)
        if self._ledger is None:
            with suppress(OSError):
                self._forget()

    def write(self, row: int, totals: Totals, names: Iterable[str]) -> None:
        """Note how far the file goes: one write to the page cache (some µs) where it changed."""
        known = tuple(names)
        if known != self._known:
            # With a zero, which a version that keeps no ledger reads and never writes: so its line
            # differs from ours even where it says the same.
            claimed = _claimed(known)
            self._known, self._end = known, f"{len(claimed)} 0{_names(claimed)}"
        text = f"{row} {totals.rows} {totals.items} {totals.raw_bytes} {self._end}"
        if text == self._written:
            return
        self._line = (
            f"{zlib.crc32(text.encode()):08x} {text}".ljust(LINE_BYTES - 1).encode() + b"\n"
        )
        try:
            if self._descriptor < 0:
                self._descriptor = open_private(self._path, os.O_WRONLY | os.O_CREAT)
            end = _seal(self._line, self._stored_crc) if self._stored else _NO_SEAL
            os.pwrite(self._descriptor, self._line + end, 0)
        except OSError:
            return  # a full disk: the file itself says so
        self._written = text

    def promise(self, destinations: Mapping[str, Persisted]) -> None:
        """Owe on disk what table `destinations` is about to owe, before it is committed.

        Raises OSError when the disk takes neither that nor that there is no ledger any more.
        """
        self._is_behind = True
        if self._ledger is None:
            return  # everything is owed to everybody
        merged = dict(self._ledger.destinations)
        for name, state in destinations.items():
            before = merged.get(name)
            if before is None:
                merged[name] = state
            elif state is not before and not _covers(before, state):
                # Should the commit fail, the table goes on owing what it owed.
                ranges = owed_ranges.union((*before.ranges, *state.ranges))
                merged[name] = replace(state, ranges=ranges)
        if merged != self._ledger.destinations:
            try:
                self._store(replace(self._ledger, destinations=merged))
            except OSError:
                self._forget()

    def wait_seconds(self) -> float | None:
        """When `keep` is due; None: not before there is news."""
        return max(self._next_keep - time.monotonic(), 0.0) if self._is_behind else None

    def is_due(self, names: Collection[str]) -> bool:
        """Whether `keep` is due: names that have gone must not come back, so they go at once."""
        has_more = self._ledger is not None and len(self._ledger.destinations) > len(names)
        return self._is_behind and (has_more or time.monotonic() >= self._next_keep)

    def keep(self, ledger: LedgerCopy) -> None:
        """Make the ledger on disk this one, which was committed. An error leaves the old one."""
        self._next_keep = time.monotonic() + LAZY_SECONDS
        try:
            self._store(replace(ledger, inode=self._inode))
        except OSError:
            self._is_behind = True  # a name that has gone must go here, too, once there is room
        else:
            self._is_behind = False

    def _store(self, ledger: LedgerCopy) -> None:
        stored = encode(ledger)
        if stored == self._stored:
            return
        fresh = self._path.with_name(FILE_NAME + ".new")
        crc = zlib.crc32(stored)
        descriptor = open_new(fresh)
        try:
            content = self._line + _seal(self._line, crc) + stored
            if os.write(descriptor, content) != len(content):
                raise OSError("a short write")
            os.fsync(descriptor)
            fresh.rename(self._path)
        except OSError:
            os.close(descriptor)
            raise
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._ledger = descriptor, ledger
        self._stored, self._stored_crc = stored, crc
        sync_directory(self._directory)

    def _forget(self) -> None:
        """Let no ledger count: it needs no room on the disk, and owes everything to everybody."""
        self._ledger, self._stored = None, b""
        with suppress(FileNotFoundError):
            descriptor = open_private(self._path, os.O_WRONLY)
            try:
                os.pwrite(descriptor, _NO_SEAL, LINE_BYTES)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(self._directory)  # else power loss brings back the one before it

    def close(self) -> None:
        """Close the file; safe twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._written = -1, ""


def _covers(before: Persisted, now: Persisted) -> bool:
    is_more = owed_ranges.subtract(now.ranges, before.ranges)
    return not is_more and before.is_paused == now.is_paused
