"""The items of a request that are rejected: all counted, the first ones kept for dead letters.

An item that is rejected is kept with its resource and its scope around it, so it may be far larger
than it was in the body: a hundred thousand spans under half a megabyte of resource would be fifty
gigabytes. So only so many are kept as dead letters, and only so many bytes of them.
"""

from collections.abc import Callable, Mapping
from typing import Final

from relay.model.errors import Refusal
from relay.model.reasons import UNREADABLE_BODY_BYTES, Reason
from relay.model.records import Encoding, RejectedItem, Signal
from relay.otlp.signals import TRACES, SignalWire

MOST_KEPT: Final = 1000
MOST_BYTES_KEPT: Final = 4 * 1024 * 1024
PATHS_A_REASON: Final = 3


class AllItemsRejected(Refusal):
    """No item of the request is valid: 400 rather than a partial success (decision D4).

    `rejected` are the items, so that they become dead letters all the same: as many as are kept.
    `counts` are all of them by reason.
    """

    code = "all_spans_rejected"

    def __init__(
        self, message: str, rejected: tuple[RejectedItem, ...], counts: Mapping[str, int]
    ) -> None:
        super().__init__(message)
        self.rejected = rejected
        self.counts = counts


def unreadable_body(body: bytes, encoding: Encoding, why: str, signal: Signal) -> RejectedItem:
    """A whole body that could not be read, as a dead letter keeps it."""
    kept = body[:UNREADABLE_BODY_BYTES]
    path = "" if len(kept) == len(body) else f"the first {len(kept):,} of {len(body):,} bytes"
    return RejectedItem(Reason.BODY_UNREADABLE, path, why, encoding, kept, 0, signal)


class Rejections:
    """The rejected items of one request. `counts` are all of them by reason; `kept` the first.

    `paths` are places of the first few of each reason, for the sender: as JSON spells them.
    """

    def __init__(self, wire: SignalWire, encoding: Encoding) -> None:
        self.wire = wire
        self.encoding = encoding
        self.kept: list[RejectedItem] = []
        self.counts: dict[str, int] = {}
        self.paths: dict[str, list[str]] = {}
        self._kept_bytes = 0

    def __len__(self) -> int:
        """How many items were rejected, kept or not."""
        return sum(self.counts.values())

    def add(
        self,
        flaw: tuple[str, str],
        place: tuple[int, int, int],
        trace_id: str | bytes,
        fragment: Callable[[], bytes],
        items: int = 1,
    ) -> None:
        """Count a span, a log record or so many points of a metric for `flaw`; keep it if it fits.

        `flaw` is the reason and the member at fault, such as `gauge.dataPoints[3].timeUnixNano`;
        `place` are the record's indices; `fragment` makes one of what is rejected alone.
        """
        reason, member = flaw
        self.counts[reason] = self.counts.get(reason, 0) + items
        paths = self.paths.setdefault(reason, [])
        has_room = len(self.kept) < MOST_KEPT and self._kept_bytes < MOST_BYTES_KEPT
        if not has_room and len(paths) >= PATHS_A_REASON:
            return
        names = self.wire.lists[Encoding.JSON]
        steps = [f"{name}[{index}]" for name, index in zip(names, place, strict=True)]
        path = ".".join([*steps, member])
        if len(paths) < PATHS_A_REASON:
            paths.append(path)
        if has_room:
            body = fragment()
            text = trace_id if isinstance(trace_id, str) else trace_id.hex()
            self._kept_bytes += len(body)
            self.kept.append(
                RejectedItem(reason, path, text[:128], self.encoding, body, items, self.wire.signal)
            )


NONE_REJECTED: Final = Rejections(TRACES, Encoding.JSON)
"""For nearly every request, where it spares making one. Never added to."""
