"""Files that SQLite could not use: how they are named, and what table `salvages` notes of each.

The engine notes whose rows such a file holds, and never looks into it: that is for salvage.
"""

import re
import zlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from relay.buffer import owed_ranges
from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite.types import Totals

REPORT_SUFFIX = ".report.json"
_NAME = re.compile(r"relay\.db\.(?:corrupt|schema-\d+)-\d{8}T\d{6}Z(?:\.\d+)?")


def wal_of(database: Path) -> Path:
    """The WAL beside a database."""
    return database.with_name(database.name + "-wal")


def report_of(quarantined: Path) -> Path:
    """Where it stands what was read back of a file, once that is done."""
    return quarantined.with_name(quarantined.name + REPORT_SUFFIX)


def quarantined_files(directory: Path) -> list[Path]:
    """Every database (or WAL without one) that was quarantined here, oldest first."""
    names = {path.name.removesuffix("-wal") for path in directory.glob("relay.db.*")}
    return [directory / name for name in sorted(names) if _NAME.fullmatch(name)]


class SalvageState(msgspec.Struct, array_like=True, frozen=True):
    """How far a file has been read back. New fields go last, with a default: it is on disk."""

    owed: dict[str, bytes]  # by destination, in the file's own ids; `nobody` when there was none
    last_row: int = 0  # of the file; 0: not known
    total_rows: int = 0  # ever written up to there; 0: not known
    total_spans: int = 0
    is_guess: bool = False  # what it owed could not be read: everything, to everybody
    rows: int = 0  # read back so far
    spans: int = 0
    letters: int = 0
    letters_after: int = 0
    is_done: bool = False
    lost: list[tuple[int, int]] = []  # first and last id
    lost_rows: int = 0
    lost_spans: int = 0
    is_exact: bool = True  # False: at least so many were lost
    words: str = ""

    def ranges(self) -> dict[str, Ranges]:
        """What each destination is still owed of the file."""
        return {name: owed_ranges.decode(stored) for name, stored in self.owed.items()}


_decode = msgspec.msgpack.Decoder(SalvageState).decode
_encode = msgspec.msgpack.Encoder().encode


def encode_state(state: SalvageState) -> bytes:
    """As it is on disk: a CRC-32 in front."""
    packed = _encode(state)
    return zlib.crc32(packed).to_bytes(4, "little") + packed


def decode_state(stored: bytes) -> SalvageState:
    """What `encode_state` wrote. Raises ValueError when the bytes are not those."""
    packed = stored[4:]
    if len(stored) < 5 or zlib.crc32(packed) != int.from_bytes(stored[:4], "little"):
        raise ValueError("the checksum of a salvage's state is wrong")
    try:
        state = _decode(packed)
        state.ranges()
    except msgspec.MsgspecError as error:
        raise ValueError("unreadable state of a salvage") from error
    return state


def state_of(
    owed: Mapping[str, Ranges],
    *,
    last_row: int = 0,
    totals: Totals | None = None,
    is_guess: bool = False,
) -> SalvageState:
    """Nothing read back yet. Where it is not known whom the file owed, it owes all to everybody."""
    return SalvageState(
        {name: owed_ranges.encode(ranges) for name, ranges in owed.items()},
        last_row=last_row,
        total_rows=totals.rows if totals else 0,
        total_spans=totals.items if totals else 0,
        is_guess=is_guess or not owed,
    )
