"""Jobs of many senders in; the one that is next out: who has used least comes first.

One process decodes one body at a time, and cannot be interrupted. So a sender whose bodies take
long must not keep the others waiting for more than the one in hand:

- of the senders that wait, the one is next whose jobs took least in the last minute, and of its
  jobs the shortest; each sender's speed is its own, so that nobody waits for a guess about others
- while others send such bodies too, a sender's next job waits twice as long as its last one took,
  if that was long: it has a third of the process at most
- a body whose sender already has more waiting than the process can do in time is turned away

Not thread-safe: the caller holds a lock.
"""

import math
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

# As if a sender had had one job of a mebibyte, until more has been measured.
_FIRST_BYTES: Final = 1024.0 * 1024.0
_FIRST_SECONDS: Final = 1 / 16
_REMEMBERED: Final = 0.7  # of what was measured before, with each job
_LONG_SECONDS: Final = 0.1
_PAUSE: Final = 2.0  # times as long as a long job took
_FORGET_SECONDS: Final = 60.0  # in which what a sender has used shrinks to a third
_MOST_SENDERS: Final = 1000


class _Job(Protocol):
    """What is queued: a body of so many bytes."""

    @property
    def size(self) -> int: ...

    @property
    def sender(self) -> str: ...


J = TypeVar("J", bound=_Job)


@dataclass(eq=False, slots=True)
class _Sender(Generic[J]):
    """One sender: its jobs, its speed, what it has used."""

    jobs: list[J] = field(default_factory=list)
    waiting_bytes: int = 0  # the job in hand included
    speed_bytes: float = _FIRST_BYTES
    speed_seconds: float = _FIRST_SECONDS
    used_seconds: float = 0.0
    used_at: float = 0.0
    not_before: float = 0.0

    def used(self, now: float) -> float:
        return self.used_seconds * math.exp((self.used_at - now) / _FORGET_SECONDS)


class JobQueue(Generic[J]):
    """The jobs that wait for the process. `now` is always the same clock's, in seconds."""

    def __init__(self) -> None:
        self._senders: dict[str, _Sender[J]] = {}

    def expected_seconds(self, sender: str, size: int) -> float:
        """Until a body of this sender would be done, if only its own jobs were before it.

        0 if there are none: a single one is never turned away.
        """
        known = self._senders.get(sender)
        if known is None or not known.waiting_bytes:
            return 0.0
        return (known.waiting_bytes + size) * known.speed_seconds / known.speed_bytes

    def put(self, job: J, now: float) -> None:
        """Add a job."""
        known = self._senders.get(job.sender)
        if known is None:
            if len(self._senders) >= _MOST_SENDERS:
                self._forget(now)
            known = self._senders[job.sender] = _Sender()
        known.jobs.append(job)
        known.waiting_bytes += job.size

    def next(self, now: float) -> tuple[J | None, float | None]:
        """The job to be done now, which `done` is to be told of.

        Without one the time at which there will be one, None until another is put.
        """
        waiting = [each for each in self._senders.values() if each.jobs]
        ready = [each for each in waiting if each.not_before <= now]
        if not ready:
            return None, min((each.not_before for each in waiting), default=None)
        sender = min(ready, key=lambda each: each.used(now))
        job = min(sender.jobs, key=lambda each: each.size)
        sender.jobs.remove(job)
        return job, None

    def take_all(self) -> list[J]:
        """Every job that still waits; none of them will be done."""
        jobs = [job for sender in self._senders.values() for job in sender.jobs]
        self._senders.clear()
        return jobs

    def done(self, job: J, seconds: float, now: float) -> None:
        """A job that `next` gave took `seconds` of a processor, 0 if it was not begun."""
        sender = self._senders[job.sender]
        sender.waiting_bytes -= job.size
        sender.used_seconds = sender.used(now) + seconds
        sender.used_at = now
        if not seconds:
            return
        sender.speed_bytes = sender.speed_bytes * _REMEMBERED + job.size
        sender.speed_seconds = sender.speed_seconds * _REMEMBERED + seconds
        if seconds > _LONG_SECONDS and self._is_contested(sender, now):
            sender.not_before = now + _PAUSE * seconds

    def _is_contested(self, sender: _Sender[J], now: float) -> bool:
        """Whether somebody else waits, or had a job in the last minute."""
        since = now - _FORGET_SECONDS
        return any(
            each.waiting_bytes or (each.used_seconds and each.used_at > since)
            for each in self._senders.values()
            if each is not sender
        )

    def _forget(self, now: float) -> None:
        """Keep only who waits or has used much."""
        idle = [name for name, each in self._senders.items() if not each.waiting_bytes]
        idle.sort(key=lambda name: self._senders[name].used(now))
        for name in idle[: len(idle) // 2 + 1]:
            del self._senders[name]
