"""The values that travel between the files of the buffer, and nowhere else."""

from dataclasses import dataclass, field
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
    spans: int
    body: bytes
    words: str
    reason: str = Reason.DAMAGED_ON_DISK  # code of the dead letter it becomes
    trace_ids: bytes = b""  # of all its requests, packed, as table `traces` has them
    signal: Signal = Signal.TRACES


@dataclass(frozen=True, slots=True)
class Budget:
    """What a courier still takes.

    `signal` and `encoding` are those of the rows it has already (None: none yet): rows of another
    signal end the chunk, and with `one_encoding` those of another encoding. `is_first`: nothing
    taken yet, so one row is given whatever its size.
    """

    raw_bytes: int
    spans: int
    signal: Signal | None
    encoding: Encoding | None
    one_encoding: bool
    is_first: bool


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows in order. `next_row`: all before it were looked at; `is_full`: what follows is too much
    (or of another encoding).
    """

    rows: list[StoredRow | DamagedRow]
    next_row: int
    is_full: bool


@dataclass(slots=True)
class Totals:
    """Sums over rows: how many, their spans, their bytes before compression."""

    rows: int = 0
    spans: int = 0
    raw_bytes: int = 0

    def __sub__(self, other: "Totals") -> "Totals":
        return Totals(
            self.rows - other.rows, self.spans - other.spans, self.raw_bytes - other.raw_bytes
        )

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            self.rows + other.rows, self.spans + other.spans, self.raw_bytes + other.raw_bytes
        )


@dataclass(frozen=True, slots=True)
class Persisted:
    """A destination as it stands on disk."""

    ranges: Ranges
    is_paused: bool


class GoneRow(NamedTuple):
    """A row that was deleted: what its spans and bytes were."""

    row: int
    spans: int
    raw_bytes: int


@dataclass(slots=True)
class Loaded:
    """What opening the file found, for the event loop's side."""

    last_row: int = 0
    destinations: dict[str, "LoadedDestination"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadedDestination:
    """A destination as kept on disk: its ranges (encoded), what they sum up to, its pause."""

    ranges: bytes
    owed: Totals
    oldest_owed_ns: int
    is_paused: bool
