"""One scripted answer, and the error of a script that cannot be used."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any


class ScriptError(ValueError):
    """A script cannot be used; the message names the answer and says what would be right."""


class Ending(enum.StrEnum):
    """What becomes of the exchange once the request has been read."""

    ANSWER = "answer"
    HANG = "hang"  # no answer until `release`; the connection stays open
    CUT = "cut"  # the request is taken, then the connection closes without an answer
    CUT_ANSWER = "cut-answer"  # the connection closes after a part of the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One scripted answer, given `times` times (None: for ever).

    Without `body` it is what OTLP prescribes, in the request's encoding: success, partial success
    (`rejected_spans`, `message`) or a google.rpc.Status. A dict or list becomes JSON.
    `content_type` replaces the right one. `retry_after` is seconds, text as it stands, or an
    HTTP-date: a point in time, or a timedelta counted from when the answer is given.
    Of a partial success the last `rejected_spans` items of the request, of whatever signal, count
    as refused.
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

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise ScriptError(f"status {self.status} is not between 200 and 599")
        if self.times is not None and self.times < 1:
            raise ScriptError(f"times is {self.times}: an answer is given once or more")
        if self.delay_seconds < 0:
            raise ScriptError(f"the delay is {self.delay_seconds} s: it cannot be negative")
        if self.rejected_spans < 0:
            raise ScriptError(f"{self.rejected_spans} rejected spans: it cannot be negative")
        if self.rejected_spans and not self.is_success:
            raise ScriptError(f"only a 2xx can reject a part; this is {self.status}")

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
