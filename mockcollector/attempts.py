"""Questions about how a sender sends: its retries, the time between them, and that it stopped.

Two requests are attempts at the same thing when path and decoded body are the same.
"""

import itertools
from collections.abc import Iterator, Sequence

from mockcollector.asking import Asking
from mockcollector.neutral import printable
from mockcollector.received import ReceivedRequest

_SHOWN_REQUESTS = 20


class Attempts(Asking):
    """A ledger that can be asked about attempts."""

    def attempts(self, *, signal: str | None = None) -> list[list[ReceivedRequest]]:
        """The requests kept, those with the same path and decoded body together, in order."""
        groups: dict[tuple[str, int], list[ReceivedRequest]] = {}
        for request in self.requests(signal=signal):
            groups.setdefault((request.path, request.body_hash), []).append(request)
        return list(groups.values())

    def gaps(self, *, signal: str | None = None) -> list[float]:
        """Seconds from each answer to the start of the next request, by the monotonic clock.

        One less than there are requests. Below 0 where a request began before the answer to the
        one before it was decided: the sender sends several at a time.
        """
        return gaps_of(self.requests(signal=signal))

    def assert_retries(
        self,
        times: int,
        *,
        min_gap_seconds: float | None = None,
        max_gap_seconds: float | None = None,
        signal: str | None = None,
    ) -> list[ReceivedRequest]:
        """The attempts at what was sent most often, if it was retried exactly `times` times.

        0: nothing was retried. `min_gap_seconds` and `max_gap_seconds` hold for each `gaps` between
        them. Raises AssertionError with a table of the requests.
        """
        groups = self.attempts(signal=signal)
        most = max(groups, key=len, default=[])
        found = max(0, len(most) - 1)
        if not most or found != times:
            said = f"{found} retries of one body, wanted {times}" if most else "no request arrived"
            raise AssertionError("\n".join([said, *_table(self.requests(signal=signal))]))
        for at, gap in enumerate(gaps_of(most), 1):
            if min_gap_seconds is not None and gap < min_gap_seconds:
                said = f"retry {at} came {gap:.3f} s after the answer, wanted {min_gap_seconds:g} s"
                raise AssertionError("\n".join([f"{said} at least", *_table(most)]))
            if max_gap_seconds is not None and gap > max_gap_seconds:
                said = f"retry {at} came {gap:.3f} s after the answer, wanted {max_gap_seconds:g} s"
                raise AssertionError("\n".join([f"{said} at most", *_table(most)]))
        return most

    def assert_same_body(self, requests: Sequence[ReceivedRequest] | None = None) -> None:
        """Raise AssertionError unless these requests, or all that are kept, have the same body.

        Decoded bodies are compared: a retry may be packed anew.
        """
        compared = self.requests() if requests is None else list(requests)
        if not compared:
            raise AssertionError("no request arrived")
        first = compared[0]
        for other in compared[1:]:
            if other.body_hash != first.body_hash:
                where = _first_difference(first.body, other.body)
                said = f"request {other.number} has another body than request {first.number}{where}"
                raise AssertionError("\n".join([said, *_table(compared)]))

    def assert_no_more_requests(self, for_seconds: float) -> None:
        """Wait so long; raise AssertionError if a request arrives meanwhile."""
        with self._watched.reading():
            before = self._arrived
        self._watched.wait(lambda: self._arrived > before, for_seconds)
        self._check_no_more(before, for_seconds)

    async def assert_no_more_requests_async(self, for_seconds: float) -> None:
        """As `assert_no_more_requests`, leaving the event loop (asyncio) free."""
        with self._watched.reading():
            before = self._arrived
        await self._watched.wait_async(lambda: self._arrived > before, for_seconds)
        self._check_no_more(before, for_seconds)

    def assert_clean(self) -> None:
        """Raise AssertionError if anything that came broke a rule, whatever was scripted.

        That is: a request refused for what it was, a JSON key that OTLP does not know, a flaw that
        receivers let pass, or what was no request at all.
        """
        said = [f"not a request: {each.reason}" for each in self.strangers()]
        for request in self.requests():
            if request.is_rule_broken:
                said.append(f"request {request.number} was refused: {request.reason}")
            if request.unknown_keys:
                said.append(f"request {request.number} has unknown keys: {request.unknown_keys}")
            if request.flaws:
                said.append(f"request {request.number} has flaws: {request.flaws}")
        if said:
            shown = [printable(each) for each in said[:_SHOWN_REQUESTS]]
            raise AssertionError("\n".join([f"{len(said)} rules were broken", *shown]))

    def _check_no_more(self, before: int, for_seconds: float) -> None:
        with self._watched.reading():
            more = self._arrived - before
        if more:
            said = f"{more} more requests within {for_seconds:g} s, wanted none"
            raise AssertionError("\n".join([said, *_table(self.requests())]))


def gaps_of(requests: Sequence[ReceivedRequest]) -> list[float]:
    """Seconds from each answer to the start of the next of these requests."""
    return [
        (later.began_ns - earlier.settled_ns) / 1e9
        for earlier, later in itertools.pairwise(requests)
    ]


def _first_difference(one: bytes, other: bytes) -> str:
    if not one or not other:
        return ""
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    return f", from byte {min(len(one), len(other)) if at is None else at} on"


def _table(requests: Sequence[ReceivedRequest]) -> Iterator[str]:
    """A line a request: when it came, on which connection, with which body, and what it got."""
    if not requests:
        return
    began = requests[0].began_ns
    bodies: dict[int, int] = {}
    for request in requests[:_SHOWN_REQUESTS]:
        body = bodies.setdefault(request.body_hash, len(bodies) + 1)
        yield printable(
            f"  {(request.began_ns - began) / 1e9:8.3f} s  request {request.number}"
            f" connection {request.connection} {request.path} body {body}"
            f" ({request.decoded_bytes} bytes) → {request.answer or 'not answered yet'}"
        )
    if len(requests) > _SHOWN_REQUESTS:
        yield f"  and {len(requests) - _SHOWN_REQUESTS} more"
