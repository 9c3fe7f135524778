"""The buffer's settings: plain values in, checked once, never read from a file here."""

from dataclasses import dataclass
from typing import Literal, Self

from relay.config import BufferConfig
from relay.model.reasons import ROW_BYTES

MIB = 1024 * 1024
RESERVE_BYTES = 32 * MIB
DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class BufferSettings:
    """What the buffer may use and how hard it syncs. Every size is in bytes."""

    max_size_bytes: int = 1024 * MIB  # database (pages in use), WAL and reserve together
    min_free_bytes: int = 256 * MIB  # of the file system; below it nothing more is taken
    keep_delivered_seconds: float = 3600.0  # delivered rows stay so long, space permitting
    when_full: Literal["refuse", "drop-oldest"] = "refuse"
    sync: Literal["full", "normal"] = "full"  # normal: survives the process, not the host
    row_bytes: int = ROW_BYTES  # small requests share a row up to this, before compression
    # These three at most; less where `max_size` is small, see below.
    transaction_bytes: int = 8 * MIB  # requests that wait are committed together up to this
    wal_checkpoint_bytes: int = 4 * MIB  # WAL written since the last checkpoint
    wal_truncate_bytes: int = 32 * MIB  # a WAL file larger than this is cut
    tail_bytes: int = 8 * MIB  # bodies just committed, kept in memory for couriers
    flush_seconds: float = 0.2  # what was settled is on disk after this at the latest
    dead_letter_bytes: int = 64 * MIB  # and never above a tenth of max_size
    dead_letter_seconds: float = 7 * DAY_SECONDS
    stall_seconds: float = 5.0  # a write that takes longer: new requests are refused at once
    patience_seconds: float = 7.5  # a request waits so long; stock senders give up after 10 s
    history_bytes: int = 64 * MIB  # and never above a tenth of max_size; 0: nothing is remembered

    @classmethod
    def of(cls, config: BufferConfig, *, least_seconds: float = 0.0) -> Self:
        """Those of the configuration; delivered rows stay `least_seconds` in any case."""
        return cls(
            max_size_bytes=config.max_size_bytes,
            min_free_bytes=config.min_free_bytes,
            keep_delivered_seconds=max(config.keep_delivered_seconds, least_seconds),
            history_bytes=config.history_bytes,
            when_full=config.when_full,
            sync=config.sync,
        )

    @property
    def dead_letter_limit_bytes(self) -> int:
        """What dead letters may use: the setting, or a tenth of `max_size` if that is less."""
        return min(self.dead_letter_bytes, self.max_size_bytes // 10)

    @property
    def history_limit_bytes(self) -> int:
        """What is remembered of rows that have gone may use: as for dead letters."""
        return min(self.history_bytes, self.max_size_bytes // 10)

    @property
    def reserve_bytes(self) -> int:
        """Room kept for a full file system: 32 MiB, but at most a quarter of `max_size`."""
        return min(RESERVE_BYTES, self.max_size_bytes // 4)

    # The reserve is at least twice a transaction and the WAL that may stand before it.

    @property
    def transaction_limit_bytes(self) -> int:
        """What is committed together at most, unless one request alone is larger."""
        return min(self.transaction_bytes, self.reserve_bytes // 3)

    @property
    def checkpoint_limit_bytes(self) -> int:
        """After so much WAL it is written back."""
        return min(self.wal_checkpoint_bytes, self.reserve_bytes // 6)

    @property
    def truncate_limit_bytes(self) -> int:
        """A WAL file larger than this is cut."""
        return min(self.wal_truncate_bytes, self.reserve_bytes)
