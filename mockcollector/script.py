"""What to answer, in order: a script of answers in, one answer a request out, then the default.

Only requests that break no rule draw from the script, so a script never hides a wrong request.
`script_text` reads the short form that the command line takes.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from mockcollector.script_text import parse_script
from mockcollector.script_values import Answer, Chaos, Ending, ScriptError, Step

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


def reset(**options: Any) -> Answer:
    """Take the request, then reset the connection (RST): accepted, unanswered, as with `cut`."""
    return Answer(ending=Ending.RESET, **options)


def endless(**options: Any) -> Answer:
    """Take the request and answer without end, `bytes_per_second`, until the sender leaves."""
    return Answer(ending=Ending.ENDLESS, **options)


def chaos(probability: float, **options: Any) -> Chaos:
    """Faults by chance, the same ones for the same `seed`; `options` are fields of `Chaos`."""
    return Chaos(probability=probability, **options)


class Script:
    """Answers in order, then `default` for ever. Safe from any thread.

    What is given for a time (`for_seconds`) begins when what was before it ended, the first with
    the first request.
    """

    def __init__(
        self,
        answers: Iterable[Step | str] | Step | str = (),
        *,
        default: Answer = OK,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._queue: deque[Step] = deque()
        self._since: float | None = None  # when the timed one at the front began
        self.default = default
        self.add(answers)

    def add(self, answers: Iterable[Step | str] | Step | str) -> None:
        """Append answers, as values or in the short form. Raises `ScriptError`."""
        new = _as_steps(answers)
        with self._lock:
            self._queue.extend(new)

    def replace(self, answers: Iterable[Step | str] | Step | str) -> None:
        """Forget what is left and go on with these. Raises `ScriptError`."""
        new = _as_steps(answers)
        with self._lock:
            self._queue = deque(new)
            self._since = None

    def clear(self) -> None:
        """Forget what is left: the default answers from now on."""
        self.replace(())

    def take(self) -> Answer:
        """The answer for the next request."""
        with self._lock:
            return self._take()

    def take_slow(self) -> Answer | None:
        """The answer for the next request if it says how to read it, else none is used up."""
        with self._lock:
            self._drop_what_is_over()
            step = self._queue[0] if self._queue else self.default
            is_slow = isinstance(step, Answer) and step.read_bytes_per_second is not None
            return self._take() if is_slow else None

    def give_back(self, answer: Answer) -> None:
        """The request for which it was taken was itself wrong: the next one gets the answer."""
        with self._lock:
            if answer is not self.default and answer.times == 1:
                self._queue.appendleft(answer)

    def _take(self) -> Answer:
        self._drop_what_is_over()
        if not self._queue:
            return self.default
        step = self._queue[0]
        if step.for_seconds is None:
            if step.times == 1:
                self._queue.popleft()
            elif step.times is not None:
                self._queue[0] = replace(step, times=step.times - 1)
        answer = step.pick() if isinstance(step, Chaos) else step
        return answer if step.times is None or step.for_seconds else replace(answer, times=1)

    def _drop_what_is_over(self) -> None:
        now = self._clock()
        while self._queue and (seconds := self._queue[0].for_seconds) is not None:
            if self._since is None:
                self._since = now
            if now < self._since + seconds:
                return
            self._since += seconds
            self._queue.popleft()
        self._since = None

    @property
    def left(self) -> tuple[Step, ...]:
        """What has not been given yet; the first one's `times` counts down."""
        with self._lock:
            return tuple(self._queue)


def _as_steps(answers: Iterable[Step | str] | Step | str) -> list[Step]:
    if isinstance(answers, str):
        return parse_script(answers)
    if isinstance(answers, Step):
        return [answers]
    steps: list[Step] = []
    each: Any
    for each in answers:
        if isinstance(each, str):
            steps += parse_script(each)
        elif isinstance(each, Step):
            steps.append(each)
        else:
            raise ScriptError(f"an answer is a text or an Answer, not a {type(each).__name__}")
    return steps
