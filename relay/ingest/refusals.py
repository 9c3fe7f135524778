"""What was refused on the way in: totals, the last hour by reason, path and sender, and the log.

A sender that is set up wrongly repeats itself with every export, and its own side rarely shows why.
So whoever looks at the relay finds it here, with what to do. However much is refused, and whatever
a request holds, memory and log stay small.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import structlog

from relay.model.counters import Counters
from relay.model.units import iso
from relay.otlp.words import clean
from relay.server import strangers

log = structlog.stdlib.get_logger(__name__)

_WINDOW_SECONDS: Final = 60.0
_MAX_EVENTS: Final = 20
_HOUR_MINUTES: Final = 60
MOST_KINDS: Final = 200
_MOST_CHARACTERS: Final = 120
_LOOK_CHARACTERS: Final = 500  # a path may be as long as all headers together

_HTTP: Final = "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf (or http/json) in the sender"
STRANGERS: Final = {
    strangers.GRPC: f"a gRPC exporter connected, and this relay accepts OTLP/HTTP only: {_HTTP}",
    strangers.TLS: (
        "TLS was spoken to a listener without a certificate: use http:// in the sender's endpoint, "
        "or set ingest.tls_cert and ingest.tls_key"
    ),
    strangers.PLAIN_HTTP: (
        "plain HTTP was spoken to a listener that speaks TLS: use https:// in the sender's endpoint"
    ),
    strangers.DISTRUST: (
        "a sender does not trust the certificate of this relay: name its authority in "
        "OTEL_EXPORTER_OTLP_CERTIFICATE there, and see whether the certificate is for the name in "
        "its endpoint"
    ),
    strangers.EXPIRED: (
        "to a sender the certificate of this relay has expired: renew ingest.tls_cert, then "
        "reload; or its clock is wrong"
    ),
    strangers.MALFORMED: "what came is no HTTP: see which program of the sender connects here",
    strangers.CONNECTIONS: "all connections are taken: see which sender leaves so many open",
}


class Refused(NamedTuple):
    """What is told apart. `reason` is an HTTP status, `cors`, or one of `STRANGERS`.

    Everything is fit for a terminal; empty stands for what is not known.
    """

    reason: str
    path: str = ""
    sender: str = ""
    user_agent: str = ""


@dataclass(slots=True)
class _Times:
    """How often, by the minute, and what was said last."""

    message: str = ""
    last_ns: int = 0
    by_minute: Counter[int] = field(default_factory=Counter)


def _last(entry: tuple[Refused, _Times]) -> int:
    return entry[1].last_ns


class Refusals:
    """Everything that is refused. Holds at most 200 kinds; of older ones only the reason."""

    def __init__(
        self,
        counters: Counters,
        clock: Callable[[], float] = time.monotonic,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._counters = counters
        self._clock = clock
        self._clock_ns = clock_ns
        self._window_ends = 0.0
        self._logged: set[tuple[str, str, str]] = set()
        self._repeated: Counter[str] = Counter()  # by reason
        self._kinds: OrderedDict[Refused, _Times] = OrderedDict()  # the latest last
        self._others: dict[Refused, _Times] = {}  # by reason alone: what there was no room for
        self._last_body = ("", "", "", 0)

    def note(
        self, status: int, address: str, message: str, *, path: str = "", user_agent: str = ""
    ) -> None:
        """A request from `address` was answered with `status` and `message`."""
        refused = self._count(str(status), address, message, path=path, user_agent=user_agent)
        if self._may_log(refused, message):
            log.warning(
                "request_refused",
                status=status,
                sender=refused.sender,
                reason=message,
                path=refused.path,
                user_agent=refused.user_agent,
            )

    def note_stranger(self, kind: str, address: str) -> None:
        """What came from `address` was no request; `kind` is one of `STRANGERS`."""
        refused = self._count(kind, address, STRANGERS[kind])
        # The listener itself tells when there are too many connections, and whose they are.
        if kind != strangers.CONNECTIONS and self._may_log(refused, STRANGERS[kind]):
            reason = STRANGERS[kind]
            log.warning("connection_refused", kind=kind, sender=refused.sender, reason=reason)

    def note_origin(self, address: str, origin: str) -> None:
        """A page of `origin` asked whether it may post, and it may not."""
        shown = clean(origin[:_LOOK_CHARACTERS], _MOST_CHARACTERS)
        message = f"a web page of {shown} asked to post: add that to ingest.cors_origins if it may"
        refused = self._count("cors", address, message)
        if self._may_log(refused, message):
            log.warning("origin_refused", origin=shown, sender=refused.sender)

    def note_body(self, address: str, message: str, *, user_agent: str) -> None:
        """Of a request that was noted the whole body could not be read."""
        self._counters.refused_bodies += 1
        agent = clean(user_agent, _MOST_CHARACTERS)
        self._last_body = (message, clean(address, _MOST_CHARACTERS), agent, self._clock_ns())

    def bodies(self) -> dict[str, Any]:
        """How many bodies could not be read since the start, and of the last why and whose."""
        message, sender, user_agent, at_ns = self._last_body
        return {
            "times": self._counters.refused_bodies,
            "last_at": iso(at_ns),
            "last_message": message,
            "last_sender": sender,
            "last_user_agent": user_agent,
        }

    def last_hour(self) -> list[dict[str, Any]]:
        """What was refused in the last hour, the latest first, as JSON has it."""
        kinds = {**self._others, **self._kinds}
        return [
            {
                **kind._asdict(),
                "times": times.by_minute.total(),
                "last_at": iso(times.last_ns),
                "message": times.message,
            }
            for kind, times in sorted(kinds.items(), key=_last, reverse=True)
            if self._trim(times)
        ]

    def summarise(self) -> None:
        """Log how many were not logged one by one since the last summary, if any."""
        if self._repeated:
            log.info("requests_refused_again", by_status=dict(sorted(self._repeated.items())))
            self._repeated.clear()

    def _count(
        self, reason: str, address: str, message: str, *, path: str = "", user_agent: str = ""
    ) -> Refused:
        refused = Refused(
            reason,
            clean(path[:_LOOK_CHARACTERS], _MOST_CHARACTERS),
            clean(address, _MOST_CHARACTERS),
            clean(user_agent, _MOST_CHARACTERS),
        )
        self._counters.refused[reason] += 1
        times = self._kinds.pop(refused, None) or _Times()
        times.message, times.last_ns = message, self._clock_ns()
        times.by_minute[self._minute] += 1
        self._trim(times)
        self._kinds[refused] = times
        if len(self._kinds) > MOST_KINDS:
            self._merge_oldest()
        return refused

    def _merge_oldest(self) -> None:
        """Make room: what has not come for longest becomes one with the others of its reason."""
        oldest, gone = self._kinds.popitem(last=False)
        others = self._others.setdefault(Refused(oldest.reason), _Times())
        others.message, others.last_ns = gone.message, gone.last_ns
        others.by_minute += gone.by_minute
        self._trim(others)

    @property
    def _minute(self) -> int:
        return int(self._clock() // 60)

    def _trim(self, times: _Times) -> bool:
        """Forget what is more than an hour old; whether anything is left."""
        first = self._minute - _HOUR_MINUTES
        for minute in [minute for minute in times.by_minute if minute <= first]:
            del times.by_minute[minute]
        return bool(times.by_minute)

    def _may_log(self, refused: Refused, message: str) -> bool:
        """Whether to log it: each kind of a sender once a minute, at most 20; others are counted.

        What differs in its path or User-Agent alone is one kind.
        """
        now = self._clock()
        if now >= self._window_ends:
            self.summarise()
            self._logged.clear()
            self._window_ends = now + _WINDOW_SECONDS
        kind = (refused.reason, refused.sender, message)
        if kind in self._logged or len(self._logged) >= _MAX_EVENTS:
            self._repeated[refused.reason] += 1
            return False
        self._logged.add(kind)
        return True
