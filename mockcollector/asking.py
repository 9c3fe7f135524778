"""Questions about what arrived in; items, or an AssertionError that tells the nearest miss, out."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final, Unpack, cast

from mockcollector.items import (
    ReceivedDataPoint,
    ReceivedItem,
    ReceivedLogRecord,
    ReceivedSpan,
)
from mockcollector.ledger import Ledger
from mockcollector.matching import (
    Wanted,
    WantedDataPoint,
    WantedLogRecord,
    criteria_of,
    describe_miss,
    find,
    is_match,
)
from mockcollector.neutral import printable
from mockcollector.signals import TRAITS, Signal
from mockcollector.trace_tree import TraceTree, build_tree

ANYTHING: Final = object()


class Asking(Ledger):
    """A ledger that answers questions about the items that it keeps."""

    def check_items_are_kept(self) -> None:
        """Raise RuntimeError where only numbers are kept."""
        if self.keep == "counts":
            raise RuntimeError("this journal keeps counts only: ask `counts` and `span_keys`")

    def items(
        self, signal: Signal, wanted: Mapping[str, Any], *, include_refused: bool = False
    ) -> list[ReceivedItem]:
        """The accepted items of a signal that are kept and have what is wanted."""
        self.check_items_are_kept()
        with self._watched.reading():
            requests = [request for request in self._requests if request.signal is signal]
        # Request by request: what does not match need not stay in memory together.
        criteria = criteria_of(signal, wanted)

        def is_asked_for(item: ReceivedItem) -> bool:
            return (include_refused or item.is_accepted) and all(c.holds(item) for c in criteria)

        if not criteria:  # all of them: no need to look first
            return [each for request in requests for each in request.items if is_asked_for(each)]
        return [item for request in requests for item in request.matching(is_asked_for)]

    def spans(
        self, *, include_refused: bool = False, **wanted: Unpack[Wanted]
    ) -> list[ReceivedSpan]:
        """The accepted spans kept that have what is wanted."""
        return cast(
            "list[ReceivedSpan]",
            self.items(Signal.TRACES, wanted, include_refused=include_refused),
        )

    def log_records(
        self, *, include_refused: bool = False, **wanted: Unpack[WantedLogRecord]
    ) -> list[ReceivedLogRecord]:
        """The accepted log records kept that have what is wanted."""
        return cast(
            "list[ReceivedLogRecord]",
            self.items(Signal.LOGS, wanted, include_refused=include_refused),
        )

    def data_points(
        self, *, include_refused: bool = False, **wanted: Unpack[WantedDataPoint]
    ) -> list[ReceivedDataPoint]:
        """The accepted data points kept that have what is wanted."""
        return cast(
            "list[ReceivedDataPoint]",
            self.items(Signal.METRICS, wanted, include_refused=include_refused),
        )

    def trace_tree(self, trace_id: str | None = None) -> TraceTree:
        """The accepted spans of a trace as a tree: `shape` to compare, `str` to print.

        The only trace that arrived needs no id. Raises AssertionError where there is none, or
        several to choose from.
        """
        spans = self.spans() if trace_id is None else self.spans(trace_id=trace_id)
        ids = sorted({span.trace_id for span in spans})
        if len(ids) != 1:
            listed = f": {', '.join(ids[:5])}" if ids else ""
            raise AssertionError(f"{len(ids)} traces arrived, wanted one{listed}")
        return build_tree(ids[0], spans)

    def by_trace(self, trace_id: str) -> list[ReceivedSpan]:
        """The accepted spans of a trace; the id in hexadecimal, in either case."""
        return self.spans(trace_id=trace_id)

    def by_name(self, name: str) -> list[ReceivedSpan]:
        """The accepted spans of this name."""
        return self.spans(name=name)

    def by_attribute(self, key: str, value: Any = ANYTHING) -> list[ReceivedSpan]:
        """The accepted spans that have an attribute, of their own or of their resource."""
        return [
            span
            for span in self.spans()
            for attributes in [span.resource.attributes | span.attributes]
            if key in attributes and (value is ANYTHING or is_match(value, attributes[key]))
        ]

    def assert_item(self, signal: Signal, wanted: Mapping[str, Any]) -> ReceivedItem:
        """The first accepted item of a signal that has all of this.

        Raises AssertionError with the nearest miss: the item that has most of it, and what differs.
        """
        items = self.items(signal, {})
        found = find(signal, items, wanted)
        if found:
            return found[0]
        miss = describe_miss(signal, items, wanted)
        raise AssertionError("\n".join([miss, *self._describe_refused(signal)]))

    def assert_span(self, **wanted: Unpack[Wanted]) -> ReceivedSpan:
        """The first accepted span that has all of this, else AssertionError: the nearest miss."""
        return cast("ReceivedSpan", self.assert_item(Signal.TRACES, wanted))

    def assert_log_record(self, **wanted: Unpack[WantedLogRecord]) -> ReceivedLogRecord:
        """The same for a log record."""
        return cast("ReceivedLogRecord", self.assert_item(Signal.LOGS, wanted))

    def assert_data_point(self, **wanted: Unpack[WantedDataPoint]) -> ReceivedDataPoint:
        """The same for a data point."""
        return cast("ReceivedDataPoint", self.assert_item(Signal.METRICS, wanted))

    def assert_no_span(self, **wanted: Unpack[Wanted]) -> None:
        """Raise AssertionError when an accepted span has all of this."""
        self.assert_no_item(Signal.TRACES, wanted)

    def assert_no_log_record(self, **wanted: Unpack[WantedLogRecord]) -> None:
        """Raise AssertionError when an accepted log record has all of this."""
        self.assert_no_item(Signal.LOGS, wanted)

    def assert_no_data_point(self, **wanted: Unpack[WantedDataPoint]) -> None:
        """Raise AssertionError when an accepted data point has all of this."""
        self.assert_no_item(Signal.METRICS, wanted)

    def assert_no_item(self, signal: Signal, wanted: Mapping[str, Any]) -> None:
        """The same for any signal."""
        found = self.items(signal, wanted)
        if found:
            items = TRAITS[signal].items
            raise AssertionError(f"{len(found)} {items} have what none should: {found[:5]}")

    def _describe_requests(self, *signals: Signal) -> Iterator[str]:
        counts = self.counts
        answers = ", ".join(f"{word} ({times} times)" for word, times in counts.answers.items())
        yield f"{counts.requests} requests arrived; answers: {answers or 'none'}"
        for reason, times in Counter(each.reason for each in self.strangers()).most_common(3):
            yield f"  and {times} times what is not a request: {reason}"
        yield from self._describe_refused(*signals)

    def _describe_refused(self, *signals: Signal) -> Iterator[str]:
        refused = self.counts.refused
        for signal in signals:
            if refused[signal]:
                items = TRAITS[signal].items
                yield f"{refused[signal]} more {items} came in requests that were not accepted"
        reasons = Counter(request.reason for request in self.requests() if request.reason)
        for reason, times in reasons.most_common(3):
            yield f"  {times} refused: {printable(reason)}"
