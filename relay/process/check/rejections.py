"""The items of a request that are rejected: all counted, the first ones kept for dead letters.

An item that is rejected is kept with its resource and its scope around it, so it may be far larger
than it was in the body: a hundred thousand spans under half a megabyte of resource would be fifty
gigabytes. So only so many are kept as dead letters, and only so many bytes of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from relay.model.errors import Refusal
from relay.model.reasons import UNREADABLE_BODY_BYTES, Reason
from relay.model.records import Encoding, RejectedItem, Signal
from relay.otlp.json import JsonRequest
from relay.otlp.json_values import Unreadable
from relay.otlp.protobuf import ProtobufRequest
from relay.otlp.signals import TRACES, SignalWire

MOST_KEPT: Final = 1000
MOST_BYTES_KEPT: Final = 4 * 1024 * 1024
PATHS_A_REASON: Final = 3
# Of what is kept of a body: so many in any case, then so many times its bytes. A fragment repeats
# what is around the span.
_ALWAYS_KEPT: Final = 16
_KEPT_TIMES: Final = 4
_LETTER_BYTES: Final = 256  # what a dead letter takes beside its fragment


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

    def __init__(
        self,
        wire: SignalWire,
        encoding: Encoding,
        body_bytes: int = 0,
        unreadable: Sequence[Unreadable] = (),
    ) -> None:
        """`unreadable` was taken out before the check: places count it as still there.

        No more is kept than a body of `body_bytes` is good for: eighty bytes on the wire would else
        make a thousand dead letters.
        """
        self.wire = wire
        self.encoding = encoding
        self._gone: dict[tuple[int, ...], list[int]] = {}
        for each in unreadable:
            if len(each.place) >= len(wire.lists[encoding]):
                self._gone.setdefault(each.place[:-1], []).append(each.place[-1])
        self.kept: list[RejectedItem] = []
        self.counts: dict[str, int] = {}
        self.paths: dict[str, list[str]] = {}
        self._kept_bytes = 0
        self._left = _KEPT_TIMES * body_bytes

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
        self._add(reason, lambda: self._path(place, member), trace_id, fragment, items)

    def add_unreadable(self, unreadable: Unreadable, fragment: Callable[[], bytes]) -> None:
        """Count what could not be read. Of an envelope nobody knows how many items it had."""
        tree = unreadable.tree
        is_record = len(unreadable.place) == len(self.wire.lists[self.encoding])
        ids = dict(tree) if is_record and type(tree) is tuple else {}
        trace_id = unreadable.trace_id or ids.get("traceId", "")
        self._add(
            Reason.VALUE_MALFORMED,
            lambda: unreadable.path,
            str(trace_id) if isinstance(trace_id, str) else "",
            fragment,
            unreadable.items,
        )

    def _path(self, place: tuple[int, int, int], member: str) -> str:
        names = self.wire.lists[Encoding.JSON]
        steps = [f"{name}[{at}]" for name, at in zip(names, self.as_sent(place), strict=True)]
        return ".".join([*steps, member])

    def as_sent(self, place: tuple[int, ...]) -> tuple[int, ...]:
        """The place of a record, or of a point in one, in the lists as they were sent."""
        sent: tuple[int, ...] = ()
        for index in place:
            at = index
            for gone in self._gone.get(sent, ()):
                at += gone <= at
            sent = (*sent, at)
        return sent

    def _add(
        self,
        reason: str,
        path_of: Callable[[], str],
        trace_id: str | bytes,
        fragment: Callable[[], bytes],
        items: int,
    ) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + items
        paths = self.paths.setdefault(reason, [])
        has_room = (
            len(self.kept) < MOST_KEPT
            and self._kept_bytes < MOST_BYTES_KEPT
            and (self._left > 0 or len(self.kept) < _ALWAYS_KEPT)
        )
        if not has_room and len(paths) >= PATHS_A_REASON:
            return
        path = path_of()
        if len(paths) < PATHS_A_REASON:
            paths.append(path)
        if has_room:
            body = fragment()
            text = trace_id if isinstance(trace_id, str) else trace_id.hex()
            self._kept_bytes += len(body)
            self._left -= len(body) + _LETTER_BYTES
            self.kept.append(
                RejectedItem(reason, path, text[:128], self.encoding, body, items, self.wire.signal)
            )


def rejections_of(request: JsonRequest | ProtobufRequest) -> Rejections:
    """None yet, of a request of which what could not be read was taken out."""
    unreadable = request.findings.unreadable
    return Rejections(request.wire, request.encoding, request.body_bytes, unreadable)


NONE_REJECTED: Final = Rejections(TRACES, Encoding.JSON)
"""For nearly every request, where it spares making one. Never added to."""
