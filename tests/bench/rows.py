"""What is measured: one row is one kind of load, and what a relay has to do with it."""

import functools
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.bench import load
from tests.bench.payloads import KINDS, Bodies, to_protobuf

# Of different bodies: the texts vary, and nobody's cache is warm by repetition.
BODY_BYTES = 4_000_000
FEWEST_BODIES = 40


@dataclass(frozen=True)
class Bars:
    """What the relay with its native part has to reach beside the others of the same run."""

    of_rotel: float  # CPU an item, at most
    collector: float  # the Collector's CPU an item as a multiple of ours, at least
    speed: float  # items a second as a multiple of rotel's, at least


MOST_MIB = 120.0  # that the daemon holds, in every row
# Of the page, where it is open in a row that has a pace of its own.
LEAST_PACE = 0.95  # of the pace, that ingest keeps
MOST_SCREEN_MS = 100.0  # until half of the answers of a screen are there

SIGNAL_BARS = Bars(0.55, 5, 1.4)  # of logs and metrics


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    kind: str  # of `payloads.KINDS`
    items: int  # in a request
    media: str = "json"
    sends: str = "auto"  # our destination's `encoding`; the others send protobuf whatever comes
    is_gzipped: bool = False
    has_tls: bool = False  # on the way out
    upstreams: int = 1
    is_one_down: bool = False  # one more destination, where nobody listens
    max_size: str = "16GiB"
    bars: Bars | None = None
    is_watched: bool = False  # a tab of the page is open
    pace: float = 0.0  # items a second; 0: as many as are answered
    kept: int = 0  # traces that are there before
    is_only_ours: bool = False  # the others have no such thing
    steps: str = ""  # keys of our destination that ask for steps, as TOML
    is_fleet: bool = False  # relays on Kafka, beside one that has its log on its own disk

    def requests(self, port: int) -> list[bytes]:
        """Whole requests, no two alike, the same for every program."""
        found = made(self.kind, self.items, self.media)
        if self.is_gzipped:
            found = [gzip.compress(body, 6) for body in found]
        kind = "application/x-protobuf" if self.media == "protobuf" else "application/json"
        extra = "Content-Encoding: gzip\r\n" if self.is_gzipped else ""
        return [load.request_bytes(port, body, kind, self.path, extra=extra) for body in found]

    @property
    def path(self) -> str:
        """Where its signal is posted."""
        return KINDS[self.kind].path


@functools.cache
def made(kind: str, items: int, media: str) -> list[bytes]:
    """Bodies of one kind, once for all rows that have them."""
    bodies = Bodies(kind, items)
    first = bodies.body()
    many = max(FEWEST_BODIES, BODY_BYTES // len(first))
    found = [first, *(bodies.body() for _ in range(many - 1))]
    return [to_protobuf(body, bodies.wire) for body in found] if media == "protobuf" else found


UNWATCHED = "100 JSON"
# All of it matches and nothing is found: what is measured is the looking.
MATCH = """match = 'duration >= 0.0 && name != "health"'"""
SAMPLE = """sample = { ratio = 0.1, keep = 'status == "ERROR"', wait = "1s" }"""
REDACT = 'redact = { keys = ["*password*"], patterns = ["email", "credit-card", "bearer"] }'
# With 10,000 traces kept, and all screens of the page looked at in turn.
PACED: Mapping[str, Any] = {
    "is_watched": True, "is_only_ours": True, "pace": 1000.0, "kept": 10_000
}  # fmt: skip
ROWS = (
    Row("1 genai JSON", "genai", 1, bars=Bars(0.85, 9, 1.2)),
    Row("100 JSON", "service", 100, bars=Bars(0.55, 6, 1.4)),
    Row("512 JSON", "service", 512, bars=Bars(0.50, 5, 2)),
    Row("100 protobuf", "service", 100, "protobuf", bars=Bars(0.45, 5, 2)),
    Row("512 protobuf", "service", 512, "protobuf", bars=Bars(0.35, 8, 3)),
    Row("100 JSON → protobuf", "service", 100, sends="protobuf", bars=Bars(0.55, 6, 2)),
    Row("100 log records JSON", "log", 100, bars=SIGNAL_BARS),
    Row("100 log records protobuf", "log", 100, "protobuf", bars=SIGNAL_BARS),
    Row("100 data points JSON", "point", 100, bars=SIGNAL_BARS),
    Row("100 data points protobuf", "point", 100, "protobuf", bars=SIGNAL_BARS),
    Row("100 JSON, gzip in", "service", 100, is_gzipped=True),
    Row("100 protobuf, TLS out", "service", 100, "protobuf", has_tls=True),
    Row("100 protobuf, five destinations", "service", 100, "protobuf", upstreams=5),
    Row("100 protobuf, one destination down", "service", 100, "protobuf", is_one_down=True),
    Row(
        "100 protobuf, evicting at max_size", "service", 100, "protobuf",
        is_one_down=True, max_size="96MiB", is_only_ours=True,
    ),
    Row("100 JSON, page open", "service", 100, is_watched=True, is_only_ours=True),
    Row("100 JSON, 1,000 a second", "service", 100, **PACED),
    Row("1 genai JSON, 1,000 a second", "genai", 1, **PACED),
    Row("100 JSON, match", "service", 100, is_only_ours=True, steps=MATCH),
    Row("100 protobuf, match", "service", 100, "protobuf", is_only_ours=True, steps=MATCH),
    Row("100 JSON, redact", "service", 100, is_only_ours=True, steps=REDACT),
    Row("100 protobuf, redact", "service", 100, "protobuf", is_only_ours=True, steps=REDACT),
    Row("100 JSON, sample", "service", 100, is_only_ours=True, steps=SAMPLE),
    Row("100 protobuf, sample", "service", 100, "protobuf", is_only_ours=True, steps=SAMPLE),
    Row("100 JSON, fleet", "service", 100, is_only_ours=True, is_fleet=True),
    Row("100 protobuf, fleet", "service", 100, "protobuf", is_only_ours=True, is_fleet=True),
)  # fmt: skip
