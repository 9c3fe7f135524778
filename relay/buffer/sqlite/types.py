"""The values that travel between the files of the buffer, and nowhere else."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from relay.buffer.owed_ranges import Ranges
from relay.model.reasons import Reason
from relay.model.records import BodyFlag, Encoding, Signal, StoredRow

# In table `deliveries`, for what was evicted before it was delivered: no HTTP status.
EVICTED_STATUS = -1


@dataclass(frozen=True, slots=True)
class DamagedRow:
    """A row whose checksum was wrong or that could not be unzipped, with what bytes there are."""

    row: int
    received_ns: int
    encoding: Encoding
    flags: BodyFlag
    items: int
    body: bytes
    words: str
    reason: str = Reason.DAMAGED_ON_DISK  # code of the dead letter it becomes
    signal: Signal = Signal.TRACES


@dataclass(slots=True)
class Budget:
    """What a courier still takes: one row whatever its size, then of its encoding what fits.

    `encoding` is that of the rows it has already (None: none yet).
    """

    raw_bytes: int
    items: int
    encoding: Encoding | None
    one_encoding: bool
    is_first: bool  # nothing taken yet

    def takes(self, encoding: Encoding | None, raw_bytes: int, items: int) -> bool:
        """Whether a row like that is taken, too; then it counts. None: what is damaged."""
        is_other_encoding = self.encoding is not None and encoding is not self.encoding
        if self.one_encoding and is_other_encoding:
            return False
        if not self.is_first and (raw_bytes > self.raw_bytes or items > self.items):
            return False
        self.encoding = self.encoding or encoding
        self.raw_bytes, self.items = self.raw_bytes - raw_bytes, self.items - items
        self.is_first = False
        return True


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows of one signal in order. `next_row`: all before it were looked at; `is_full`: what
    follows is too much (or of another encoding).
    """

    rows: list[StoredRow | DamagedRow]
    next_row: int
    is_full: bool


@dataclass(slots=True)
class Totals:
    """Sums over rows: how many, their spans, their bytes before compression."""

    rows: int = 0
    items: int = 0
    raw_bytes: int = 0

    def __sub__(self, other: "Totals") -> "Totals":
        return Totals(
            self.rows - other.rows, self.items - other.items, self.raw_bytes - other.raw_bytes
        )

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            self.rows + other.rows, self.items + other.items, self.raw_bytes + other.raw_bytes
        )


@dataclass(frozen=True, slots=True)
class Persisted:
    """A destination as it stands on disk."""

    ranges: Ranges
    is_paused: bool


class GoneRow(NamedTuple):
    """A row that was deleted or is known in part: what all of its spans and bytes were."""

    row: int
    items: int
    raw_bytes: int


class LoadedDestination(NamedTuple):
    """A destination as kept on disk, and what it is owed sums up to."""

    state: Persisted
    owed: Totals
    oldest_owed_ns: int


class Loaded(NamedTuple):
    """What opening the file found, for the event loop's side. `last_rows` are the newest by signal,
    or later ones of another.
    """

    last_row: int
    last_rows: Mapping[Signal, int]
    destinations: dict[str, LoadedDestination]
