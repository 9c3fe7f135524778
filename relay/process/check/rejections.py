"""The spans of a request that are rejected: all counted, the first ones kept for dead letters.

A span that is rejected is kept with its resource and its scope around it, so it may be far larger
than it was in the body: a hundred thousand spans under half a megabyte of resource would be fifty
gigabytes. So only so many are kept as dead letters, and only so many bytes of them.
"""

from collections.abc import Callable, Mapping
from typing import Final

from relay.model.errors import Refusal
from relay.model.reasons import UNREADABLE_BODY_BYTES, Reason
from relay.model.records import Encoding, RejectedItem

MOST_SPANS_KEPT: Final = 1000
MOST_BYTES_KEPT: Final = 4 * 1024 * 1024
PATHS_A_REASON: Final = 3


class AllSpansRejected(Refusal):
    """No span of the request is valid: 400 rather than a partial success (decision D4).

    `rejected` are the spans, so that they become dead letters all the same: as many as are kept.
    `counts` are all of them by reason.
    """

    code = "all_spans_rejected"

    def __init__(
        self, message: str, rejected: tuple[RejectedItem, ...], counts: Mapping[str, int]
    ) -> None:
        super().__init__(message)
        self.rejected = rejected
        self.counts = counts


def unreadable_body(body: bytes, encoding: Encoding, why: str) -> RejectedItem:
    """A whole body that could not be read, as a dead letter keeps it."""
    kept = body[:UNREADABLE_BODY_BYTES]
    path = "" if len(kept) == len(body) else f"the first {len(kept):,} of {len(body):,} bytes"
    return RejectedItem(Reason.BODY_UNREADABLE, path, why, encoding, kept)


class Rejections:
    """The rejected spans of one request. `counts` are all of them by reason; `kept` the first.

    `paths` are places of the first few of each reason, for the sender.
    """

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        self.kept: list[RejectedItem] = []
        self.counts: dict[str, int] = {}
        self.paths: dict[str, list[str]] = {}
        self._kept_bytes = 0

    def __len__(self) -> int:
        """How many spans were rejected, kept or not."""
        return sum(self.counts.values())

    def add(
        self,
        flaw: tuple[str, str],
        place: tuple[int, int, int],
        trace_id: str | bytes,
        fragment: Callable[[], bytes],
    ) -> None:
        """Count a span for `flaw`, its reason and member; keep it while there is room.

        `place` are its indices; `fragment` makes one of it alone.
        """
        reason, member = flaw
        self.counts[reason] = self.counts.get(reason, 0) + 1
        paths = self.paths.setdefault(reason, [])
        has_room = len(self.kept) < MOST_SPANS_KEPT and self._kept_bytes < MOST_BYTES_KEPT
        if not has_room and len(paths) >= PATHS_A_REASON:
            return
        i, j, k = place
        path = f"resourceSpans[{i}].scopeSpans[{j}].spans[{k}].{member}"
        if len(paths) < PATHS_A_REASON:
            paths.append(path)
        if has_room:
            body = fragment()
            text = trace_id if isinstance(trace_id, str) else trace_id.hex()
            self._kept_bytes += len(body)
            self.kept.append(RejectedItem(reason, path, text[:128], self.encoding, body))


NONE_REJECTED: Final = Rejections(Encoding.JSON)
"""For nearly every request, where it spares making one. Never added to."""
