"""What to answer, in order: a script of answers in, one answer a request out, then the default.

Only requests that break no rule draw from the script, so a script never hides a wrong request.
`script_text` reads the short form that the command line takes.
"""

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from mockcollector.script_text import parse_script
from mockcollector.script_values import Answer, Ending

OK = Answer(times=None)


def ok(**options: Any) -> Answer:
    """Success; `options` are fields of `Answer`."""
    return Answer(**options)


def refuse(status: int, **options: Any) -> Answer:
    """Any status with a Status body, such as `refuse(429, retry_after=2, times=3)`."""
    return Answer(status=status, **options)


def partial(rejected_spans: int, message: str = "", **options: Any) -> Answer:
    """Partial success: so many spans, log records or data points are rejected.

    0 rejected with a message is OTLP's way to warn.
    """
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
        return parse_script(answers)
    return [answers] if isinstance(answers, Answer) else list(answers)
