"""What to answer, in order: a script of answers in, one answer a request out, then the default.

Only requests that break no rule draw from the script, so a script never hides a wrong request.
`script_text` reads the short form that the command line takes.
"""

import enum
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
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
    Of a partial success the last `rejected_spans` spans of the request count as refused.
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
        """Whether the spans of the request count as accepted."""
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


OK = Answer(times=None)


def ok(**options: Any) -> Answer:
    """Success; `options` are fields of `Answer`."""
    return Answer(**options)


def refuse(status: int, **options: Any) -> Answer:
    """Any status with a Status body, such as `refuse(429, retry_after=2, times=3)`."""
    return Answer(status=status, **options)


def partial(rejected_spans: int, message: str = "", **options: Any) -> Answer:
    """Partial success; 0 rejected with a message is OTLP's way to warn."""
    return Answer(rejected_spans=rejected_spans, message=message, **options)


def hang(**options: Any) -> Answer:
    """No answer until `MockCollector.release`, then success."""
    return Answer(ending=Ending.HANG, **options)


def cut(**options: Any) -> Answer:
    """Take the request, then close the connection: the spans count as accepted, unanswered."""
    return Answer(ending=Ending.CUT, **options)


def cut_answer(**options: Any) -> Answer:
    """Take the request and close the connection amid the answer."""
    return Answer(ending=Ending.CUT_ANSWER, **options)


class Script:
    """Answers in order, then `default` for ever. Safe from any thread."""

    def __init__(self, answers: Iterable[Answer] | str = (), *, default: Answer = OK) -> None:
        self._lock = threading.Lock()
        self._queue: deque[Answer] = deque()
        self.default = default
        self.add(answers)

    def add(self, answers: Iterable[Answer] | Answer | str) -> None:
        """Append answers, as values or in the short form. Raises `ScriptError`."""
        new = _as_answers(answers)
        with self._lock:
            self._queue.extend(new)

    def replace(self, answers: Iterable[Answer] | Answer | str) -> None:
        """Forget what is left and go on with these. Raises `ScriptError`."""
        new = _as_answers(answers)
        with self._lock:
            self._queue = deque(new)

    def clear(self) -> None:
        """Forget what is left: the default answers from now on."""
        self.replace(())

    def take(self) -> Answer:
        """The answer for the next request."""
        with self._lock:
            if not self._queue:
                return self.default
            answer = self._queue[0]
            if answer.times == 1:
                self._queue.popleft()
            elif answer.times is not None:
                self._queue[0] = replace(answer, times=answer.times - 1)
            return answer

    @property
    def left(self) -> tuple[Answer, ...]:
        """What has not been given yet; the first one's `times` counts down."""
        with self._lock:
            return tuple(self._queue)


def _as_answers(answers: Iterable[Answer] | Answer | str) -> list[Answer]:
    if isinstance(answers, str):
        from mockcollector.script_text import parse_script

        return parse_script(answers)
    return [answers] if isinstance(answers, Answer) else list(answers)
