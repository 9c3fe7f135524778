"""What an exchange means for what was sent: delivered, to be retried, or blocked. Pure.

::

    2xx of OTLP, or not to the contrary      Delivered   done, or done but for a partial success
    408 425 429 5xx, no connection, timeout  Wait        for ever, by Retry-After or backoff
    everything else, and a 2xx that is none  Blocked     probed after 5 s … 60 s

The specification retries 429, 502, 503 and 504 only and lets every other failure drop the data.
Here a 500 waits too, and a refusal keeps what it refused: nothing that was kept is dropped for
the mistake of a proxy or of a configuration.

Responses that may speak of what is *in* the batch (`OF_THE_CONTENT`, and whatever a preset knows by
its words, a 500 too) are blocked, too, but first the courier looks for the items that they are
about. After those that may mean that it was too much
at once (`OF_THE_SIZE`, a timeout) it waits and sends less.

415 may be meant for the encoding, and so may a 400 or a 422 of an upstream that reads what it does
not know as rubbish (`OF_THE_ENCODING`). Where the encoding is free, the courier tries the other one
before it counts as blocked; `worse_of_two` says what two refusals amount to.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, TypeGuard

from relay.upstream.explain import Fault
from relay.upstream.explain_response import (
    Asked,
    answered,
    explain_response,
    known_of_content,
)
from relay.upstream.response import Response

RETRIED = "it is retried automatically"
OF_THE_BATCH = frozenset({400, 413, 415, 422})
OF_THE_CONTENT = frozenset({400, 413, 422})
OF_THE_ENCODING = frozenset({400, 415, 422})
OF_THE_SIZE = frozenset({500, 502, 504})
TOO_LARGE = 413
UNSUPPORTED = 415

MAX_RETRY_AFTER_SECONDS = 3600.0

# As VictoriaMetrics and VictoriaLogs answer 400.
_ENCODING_WORDS = re.compile(r"\b(json|protobuf) encoding (isn't|is not) supported", re.IGNORECASE)

About = Literal["", "encoding", "content", "older", "newer", "series"]
AGES: tuple[About, ...] = ("older", "newer", "series")

# Several fields of the name are one list; a date has a comma of its own.
_VALUES = re.compile(r"\s*(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,[^,]*|[^,]+", re.IGNORECASE)
_SECONDS = re.compile(r"[0-9]{1,18}(\.[0-9]*)?|\.[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Delivered:
    """The upstream has taken the batch. `rejected` spans of it were refused, with `message`."""

    status: int
    rejected: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """The upstream is away or asks for patience; it is retried for ever.

    `may_be_the_size`: the body was on its way or had been sent, so less at once may get through, or
    the same without one span. `said` is `reason` without what happens next.
    """

    reason: str
    retry_after_seconds: float | None = None
    status: int = 0
    may_be_the_size: bool = field(default=False, compare=False)
    said: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Blocked:
    """The upstream, or the way to it, refuses; everything is kept and probed.

    `said` is the part of `reason` that the upstream said, without our advice; may be empty. `words`
    are its own words alone, masked. `about`: what those are known to mean, beyond what the status
    says; the last three are those of `KnownRefusal.age`.
    """

    reason: str
    status: int = 0
    said: str = field(default="", compare=False)
    words: str = field(default="", compare=False)
    about: About = field(default="", compare=False, kw_only=True)

    @property
    def is_proof(self) -> bool:
        """Whether it is known to be about the items themselves: no others need be seen to pass."""
        return self.about in ("content", *AGES)

    @property
    def is_about_the_encoding(self) -> bool:
        """Whether it is known to be about nothing else."""
        return self.status == UNSUPPORTED or self.about == "encoding"


@dataclass(frozen=True, slots=True)
class Faulty(Blocked):
    """An exception of ours is in the way: `words` are its kind and the lines it came through.

    `is_certain`: it is the fault of what was to be sent, whatever the upstream does.
    """

    is_certain: bool = False


@dataclass(frozen=True, slots=True)
class Breaks(Blocked):
    """`wait` taken for a refusal, to find the span it comes from: one to park.

    Never an outcome of a request, and no reason for a dead letter.
    """

    wait: Wait = Wait("")


@dataclass(frozen=True, slots=True)
class Unsent:
    """Nothing of the batch was for this upstream, so nothing was sent. It says nothing of it."""


Outcome = Delivered | Wait | Blocked | Unsent


def classify(response: Response, asked: Asked, now: datetime) -> Delivered | Wait | Blocked:
    """What `response` means. `now` is what a date in Retry-After is compared with where the
    response has no date of its own.
    """
    status = response.status
    if response.is_success:
        found = response.success
        return Delivered(status, found.rejected, response.shown(found.message))
    fault = explain_response(response, asked)
    said = answered(asked, response)
    if fault.heals:
        # A date is a moment of the upstream's clock, which may be hours from ours.
        said_at = _parse_date(response.headers.get("date", "")) or now
        told = parse_retry_after(response.headers.get("retry-after", ""), said_at)
        return Wait(f"{fault.cause}; {RETRIED}", told, status, status in OF_THE_SIZE, said)
    about = _about(response, asked)
    return Blocked(
        _then_reload(fault.cause, fault.remedy), status, said, response.words, about=about
    )


def _about(response: Response, asked: Asked) -> About:
    known = known_of_content(response, asked)
    if known is not None:
        return known.age or "content"
    is_encoding = response.status in OF_THE_ENCODING and _ENCODING_WORDS.search(response.heard)
    return "encoding" if is_encoding else ""


def of_fault(fault: Fault, name: str) -> Wait | Blocked:
    """What it means for destination `name` that there was no response."""
    said = f"{name}: {fault.cause}"
    if fault.heals:
        reason = f"{said}; {fault.remedy}; {RETRIED}"
        return Wait(reason, may_be_the_size=fault.may_be_the_size, said=said)
    return Blocked(_then_reload(said, fault.remedy))


def _then_reload(said: str, remedy: str) -> str:
    return (
        f"{said}; {remedy} Then reload" if remedy[-1] == "?" else f"{said}; {remedy}, then reload"
    )


def may_mean_the_encoding(outcome: Outcome) -> TypeGuard[Blocked]:
    """Whether the same rows in the other encoding may fare better."""
    return (
        isinstance(outcome, Blocked) and outcome.status in OF_THE_ENCODING and not outcome.is_proof
    )


def may_mean_the_content(outcome: Outcome | None) -> TypeGuard[Blocked]:
    """Whether parts of the same rows may fare better than all of them."""
    return isinstance(outcome, Faulty) or is_refused_as_content(outcome)


def is_refused_as_content(outcome: Outcome | None) -> TypeGuard[Blocked]:
    """Whether the upstream has read it, and may refuse what it read."""
    return (
        isinstance(outcome, Blocked)
        and (outcome.status in OF_THE_CONTENT or outcome.is_proof)
        and outcome.about != "encoding"
    )


def is_of_the_batch(outcome: Outcome) -> bool:
    """Whether it is about the request, not about who sends it or where to."""
    return isinstance(outcome, Blocked) and (outcome.status in OF_THE_BATCH or outcome.is_proof)


def breaks(outcome: Outcome | None) -> Breaks | None:
    """`outcome` as a refusal, if it may come from one of the spans that were sent."""
    if not isinstance(outcome, Wait) or not outcome.may_be_the_size:
        return None
    said = outcome.said or outcome.reason
    return Breaks(outcome.reason, outcome.status, said, wait=outcome)


def worse_of_two(first: Blocked, second: Blocked) -> Blocked:
    """What it means that the rows were refused as `first` and in the other encoding as `second`.

    The words of the first, since those rows came in like that; but where the second one got past
    the encoding and met another obstacle, such as a wrong token, that is the one in the way.
    """
    if second.status and second.status not in OF_THE_BATCH:
        return second
    tried = f"refused too ({second.status})" if second.status else "not possible either"
    return Blocked(
        f"{first.said or first.reason}; the other encoding is {tried}: check endpoint and headers, "
        "then reload",
        first.status,
        first.said,
        first.words,
    )


def parse_retry_after(text: str, now: datetime) -> float | None:
    """Seconds that Retry-After asks for, in 0…3600; None when it cannot be read.

    Seconds (RFC 9110 has whole ones, some upstreams send fractions) or an HTTP-date, to be compared
    with `now`. Of several values, the smallest: asking too soon costs one more answer.
    """
    found = [_parse_wait(value.strip(), now) for value in _VALUES.findall(text)]
    return min((seconds for seconds in found if seconds is not None), default=None)


def _parse_wait(text: str, now: datetime) -> float | None:
    if _SECONDS.fullmatch(text):
        return min(float(text), MAX_RETRY_AFTER_SECONDS)
    date = _parse_date(text)
    if date is None:
        return None
    return min(max(0.0, (date - now).total_seconds()), MAX_RETRY_AFTER_SECONDS)


def _parse_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date
