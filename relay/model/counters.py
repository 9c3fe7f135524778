"""Plain numbers that every part may add to. No I/O: `admin/metrics` turns them into text."""

from collections import Counter, deque
from collections.abc import Mapping

from relay.model.records import Signal


class Counters:
    """What happened since the start of this process."""

    def __init__(self) -> None:
        self.requests: Counter[int] = Counter()  # by HTTP status of our answer
        # What was refused, by HTTP status or by what came that is no HTTP/1.1.
        self.refused: Counter[str] = Counter()
        self.refused_bodies = 0  # that could not be read at all: 400
        self.received_items: Counter[Signal] = Counter()  # decoded, before the check of each
        self.received_bytes = 0  # of bodies, after decompression
        self.kept_items: Counter[Signal] = Counter()  # committed and answered
        self.rejected_items: Counter[tuple[Signal, str]] = Counter()  # by reason
        # By signal and step of `[process]`; what was dropped counts as received and not as kept.
        self.processed_items: Counter[tuple[Signal, str]] = Counter()
        self.warnings: Counter[tuple[Signal, str]] = Counter()  # by code
        self.connections_closed: Counter[str] = Counter()  # by limit that was passed
        self.last_kept_ns = 0  # when a request was kept last
        self.last_connection_test_ns = 0  # a sender's own test (X-Test-Connection)
        self.commits = 0  # transactions; their seconds include the fsync
        self.commit_seconds_sum = 0.0
        self.dead_letters: Counter[str] = Counter()  # by reason
        self.recent_commit_seconds: deque[float] = deque(maxlen=512)

    def reject(self, signal: Signal, by_reason: Mapping[str, int]) -> None:
        """Count items that were received and rejected."""
        self.received_items[signal] += sum(by_reason.values())
        for reason, number in by_reason.items():
            self.rejected_items[signal, reason] += number

    def process(self, signal: Signal, by_step: Mapping[str, int]) -> None:
        """Count what `[process]` did to items; what was dropped was received and is not kept."""
        self.received_items[signal] += by_step.get("drop", 0)
        for step, number in by_step.items():
            self.processed_items[signal, step] += number

    def commit_quantile(self, quantile: float) -> float:
        """Seconds within which that share of the last 512 commits were done; 0.0 without any."""
        # A copy is made in one step: the writer's thread appends meanwhile.
        ordered = sorted(self.recent_commit_seconds.copy())
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))] if ordered else 0.0
