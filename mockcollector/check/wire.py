"""The requests of one run in; what an exporter did on the wire out, for one signal."""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from mockcollector.received import ReceivedRequest
from mockcollector.signals import TRAITS, Signal

_TOLD_ATTEMPTS = 6


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request. Times are seconds from the start of the command.

    `key` is the same for two requests with the same data. `ended` is None where the exchange was
    still open when the command was over.
    """

    request: ReceivedRequest
    at: float
    ended: float | None
    key: str

    @property
    def status(self) -> int | None:
        """What it was answered; None where it got no answer, or a part of one."""
        return self.request.status

    @property
    def lasted(self) -> float | None:
        """How long the exchange was open, in seconds."""
        return None if self.ended is None else self.ended - self.at


@dataclass(frozen=True, slots=True)
class Wire:
    """What came of one signal in one run, and how the command ended.

    `strays` are requests of a shared collector that were sent to no path of its, `strangers` why
    connections became no request, such as a failed TLS handshake. `elsewhere` counts the requests
    of the other signals. `exit_code` is None where the command had to be ended; `output` is what it
    printed on both streams. `opened` is when a late collector began to listen.
    """

    signal: Signal
    attempts: tuple[Attempt, ...]
    strays: tuple[Attempt, ...] = ()
    exit_code: int | None = 0
    seconds: float = 0.0
    output: str = ""
    opened: float | None = None
    strangers: tuple[str, ...] = ()
    elsewhere: int = 0

    @property
    def first(self) -> Attempt | None:
        """The first request, which got the first answer of the script."""
        return self.attempts[0] if self.attempts else None

    @property
    def again(self) -> tuple[Attempt, ...]:
        """Every later request with the data of the first."""
        if self.first is None:
            return ()
        return tuple(each for each in self.attempts[1:] if each.key == self.first.key)

    @property
    def gaps(self) -> tuple[float, ...]:
        """Seconds from the end of each of these to the beginning of the next."""
        if self.first is None:
            return ()
        chain = (self.first, *self.again)
        return tuple(
            later.at - (earlier.ended or earlier.at) for earlier, later in itertools.pairwise(chain)
        )

    @property
    def accepted(self) -> int:
        """How many items were accepted, those that came twice counted once."""
        return sum({each.key: each.request.accepted_count for each in self._answered}.values())

    @property
    def _answered(self) -> list[Attempt]:
        return [each for each in self.attempts if each.request.accepted_count]

    @property
    def sent(self) -> int:
        """How many items came, accepted or not, those that came twice counted once."""
        return sum({each.key: each.request.item_count for each in self.attempts}.values())

    @property
    def connections(self) -> int:
        """How many connections the requests came on."""
        return len({each.request.connection for each in self.attempts})

    @property
    def is_parallel(self) -> bool:
        """Whether a request began while the one before it was still unanswered."""
        return any(
            earlier.ended is None or later.at < earlier.ended
            for earlier, later in itertools.pairwise(self.attempts)
        )

    @property
    def was_ended(self) -> bool:
        """Whether the command did not end by itself."""
        return self.exit_code is None

    def says(self, text: str) -> bool:
        """Whether the command printed it."""
        return text in self.output

    def story(self) -> str:
        """What was on the wire, for people."""
        names: dict[str, str] = {}
        parts = [self._told(each, names) for each in self.attempts[:_TOLD_ATTEMPTS]]
        if len(self.attempts) > _TOLD_ATTEMPTS:
            parts.append(f"and {len(self.attempts) - _TOLD_ATTEMPTS} more requests")
        parts += [
            f"{each.at:.2f} s {each.request.method} {each.request.path}" for each in self.strays[:3]
        ]
        if not parts:
            parts = ["nothing arrived"]
        if self.opened is not None:
            parts.insert(0, f"listening from {self.opened:.2f} s")
        parts += list(dict.fromkeys(self.strangers))[:3]
        parts.append(
            f"ended by us at {self.seconds:.1f} s"
            if self.exit_code is None
            else f"exit {self.exit_code} at {self.seconds:.1f} s"
        )
        return "; ".join(parts)

    def _told(self, each: Attempt, names: dict[str, str]) -> str:
        items = TRAITS[self.signal].counted(each.request.item_count)
        name = names.get(each.key)
        if name is None:
            names[each.key] = name = f"request {chr(ord('A') + len(names) % 26)}"
            name += f" ({items})"
        open_for = "" if each.lasted is None or each.lasted < 0.5 else f" after {each.lasted:.1f} s"
        answer = each.request.answer or "no answer"
        return f"{each.at:.2f} s {name} → {answer}{open_for}"


def key_of(request: ReceivedRequest) -> str:
    """A text that is the same for two requests with the same data.

    For spans these are their ids; log records and data points have none, so it is all of them.
    """
    if request.signal is Signal.TRACES and request.span_ids:
        content = request.span_ids
    elif request.message is not None:
        content = request.message.SerializeToString(deterministic=True)
    else:
        content = request.body
    return hashlib.sha256(content).hexdigest()[:16]


def attempts_of(
    requests: Sequence[ReceivedRequest], ended: Sequence[float | None], began_unix_nano: int
) -> tuple[Attempt, ...]:
    """Requests with the seconds at which each exchange was over; in the order of arrival."""
    return tuple(
        Attempt(
            request, (request.received_unix_nano - began_unix_nano) / 1e9, over, key_of(request)
        )
        for request, over in zip(requests, ended, strict=True)
    )
