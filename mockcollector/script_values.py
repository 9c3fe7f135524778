"""One scripted answer, and the error of a script that cannot be used."""

import enum
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2


class ScriptError(ValueError):
    """A script cannot be used; the message names the answer and says what would be right."""


class Ending(enum.StrEnum):
    """What becomes of the exchange once the request has been read."""

    ANSWER = "answer"
    HANG = "hang"  # no answer until `release`; the connection stays open
    CUT = "cut"  # the request is taken, then the connection closes without an answer
    CUT_ANSWER = "cut-answer"  # the connection closes after a part of the answer
    RESET = "reset"  # the request is taken, then the connection is reset (RST)
    ENDLESS = "endless"  # an answer without end, until the sender leaves or `release`


class Coding(enum.StrEnum):
    """How the body of an answer is packed, whatever the sender's Accept-Encoding says."""

    GZIP = "gzip"
    DEFLATE = "deflate"
    DAMAGED_GZIP = "damaged-gzip"  # announced as gzip, and is not


def is_token(text: str) -> bool:
    """Whether this can be the name of a header (RFC 9110: a token)."""
    return _TOKEN.fullmatch(text) is not None


def _check_times(times: int | None, for_seconds: float | None) -> None:
    if times is not None and times < 1:
        raise ScriptError(f"times is {times}: an answer is given once or more")
    if for_seconds is not None and for_seconds <= 0:
        raise ScriptError(f"for_seconds is {for_seconds}: it must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One scripted answer, given `times` times (None: for ever), or for `for_seconds`.

    Without `body` it is what OTLP prescribes, in the request's encoding: success, partial success
    (`rejected_spans`, `message`) or a google.rpc.Status. A dict or list becomes JSON.
    `content_type` replaces the right one; an empty one sends none. `retry_after` is seconds, text
    as it stands, or an HTTP-date: a point in time, or a timedelta counted from when the answer is
    given. Of a partial success the last `rejected_spans` items of the request, of whatever signal,
    count as refused.

    The rest are faults of the connection. `read_bytes_per_second` reads the request's body so
    slowly. `dribble_seconds` spreads the answer, head and body, over that time. `size_bytes` pads
    the body with what a reader ignores. `coding` packs it. After the answer `idle_close_seconds`
    closes the connection when so long nothing came, `closes_at_next` when the next request begins.
    `bytes_per_second` is the pace of an endless answer.
    """

    status: int = 200
    message: str = ""
    rejected_spans: int = 0
    body: bytes | str | dict[str, Any] | list[Any] | None = None
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_after: float | str | datetime | timedelta | None = None
    delay_seconds: float = 0.0
    ending: Ending = Ending.ANSWER
    times: int | None = 1
    for_seconds: float | None = None
    read_bytes_per_second: int | None = None
    dribble_seconds: float = 0.0
    size_bytes: int = 0
    coding: Coding | None = None
    idle_close_seconds: float | None = None
    closes_at_next: bool = False
    bytes_per_second: int = 1024 * 1024

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise ScriptError(f"status {self.status} is not between 200 and 599")
        _check_times(self.times, self.for_seconds)
        for name, least in (
            ("delay_seconds", 0),
            ("dribble_seconds", 0),
            ("idle_close_seconds", 0),
            ("rejected_spans", 0),
            ("size_bytes", 0),
            ("read_bytes_per_second", 1),
            ("bytes_per_second", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ScriptError(f"{name} is {value}: it cannot be below {least}")
        if self.rejected_spans and not self.is_success:
            raise ScriptError(f"only a 2xx can reject a part; this is {self.status}")
        for name in self.headers:
            if not is_token(name):
                raise ScriptError(f"{name!r} cannot be the name of a header")

    @property
    def is_success(self) -> bool:
        """Whether the items of the request count as accepted."""
        return 200 <= self.status <= 299

    def retry_after_text(self) -> str | None:
        """The value of Retry-After as it is sent now; an HTTP-date is always in GMT."""
        value = self.retry_after
        if isinstance(value, timedelta):
            value = datetime.now(UTC) + value
        if isinstance(value, datetime):
            return format_datetime(value.astimezone(UTC), usegmt=True)
        return None if value is None else f"{value:g}" if isinstance(value, float) else str(value)

    def __str__(self) -> str:
        if self.ending is not Ending.ANSWER:
            return str(self.ending)
        return f"partial {self.rejected_spans}" if self.rejected_spans else str(self.status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chaos:
    """Faults by chance: each request meets one of `faults` with this probability, else success.

    The same `seed` gives the same sequence. `times` and `for_seconds` as in `Answer`.
    """

    probability: float
    seed: int = 0
    faults: Sequence[Answer] = (
        Answer(status=503),
        Answer(status=429),
        Answer(ending=Ending.CUT),
        Answer(ending=Ending.RESET),
    )
    times: int | None = None
    for_seconds: float | None = None
    dice: random.Random | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ScriptError(f"the probability {self.probability} is not between 0 and 1")
        if not self.faults:
            raise ScriptError("chaos needs one fault at least")
        if any(fault.read_bytes_per_second for fault in self.faults):
            raise ScriptError("how a request is read cannot be left to chance: no slow-read")
        _check_times(self.times, self.for_seconds)
        if self.dice is None:
            object.__setattr__(self, "dice", random.Random(self.seed))  # noqa: S311 - no secret

    def pick(self) -> Answer:
        """What the next request meets."""
        if self.dice is None or self.dice.random() >= self.probability:
            return Answer()
        return replace(self.dice.choice(self.faults), times=1, for_seconds=None)

    def __str__(self) -> str:
        return f"chaos {self.probability:g}"


Step = Answer | Chaos
"""What a script is made of."""
