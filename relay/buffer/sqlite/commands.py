"""What the event loop tells the writer's thread, and what that tells back: plain values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.rows import Group
from relay.buffer.sqlite.space.eviction import Evicted
from relay.buffer.sqlite.space.outlook import Outlook
from relay.buffer.sqlite.transactions import Job
from relay.buffer.sqlite.types import Totals
from relay.buffer.views import LetterCount
from relay.model.errors import BufferError_
from relay.model.records import Health, Request


class Answer(Protocol):
    """What the writer keeps of a waiter: it only hands it back."""

    def done(self) -> bool:
        """Whether nobody waits any more."""
        ...

    def cancelled(self) -> bool:
        """Whether that is because the waiter left; else it was told something."""
        ...


@dataclass(frozen=True, slots=True)
class Append:
    """A request that waits for its commit. `size` is its bytes before compression."""

    request: Request
    size: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class Flush:
    """Commit the pending moves now; `answer` (if any) wants to know."""

    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class Corrupt:
    """A reader met a damaged page in the file of `generation`, or did not find row `row`."""

    generation: int
    words: str
    answer: Answer
    row: int = 0  # not 0: only if that row ought to be there


@dataclass(frozen=True, slots=True)
class Reload:
    """From now on these settings hold."""

    settings: BufferSettings


@dataclass(frozen=True, slots=True)
class Work:
    """A transaction of its own; `answer` gets what the job returns."""

    job: Job[Any]
    answer: Answer


class Stop:
    """Commit what waits, write back the WAL and end."""


Message = Append | Flush | Corrupt | Reload | Work | Stop


class Events(Protocol):
    """The event loop's side. Called from the writer's thread."""

    @property
    def health(self) -> Callable[[], Mapping[str, Health]]:
        """How each configured destination fares: asked when space is short."""
        ...

    def committed(self, appends: list[Append], group: Group) -> None:
        """All of `appends` are on disk, as the rows of `group`."""
        ...

    def refused(self, answers: list[Answer], error: BufferError_) -> None:
        """Nothing of these was kept."""
        ...

    def worked(self, work: Work, result: Any) -> None:
        """The job is committed, and returned `result`."""
        ...

    def failed(self, work: Work, error: Exception) -> None:
        """Nothing of the job is on disk."""
        ...

    def done(self, answers: list[Answer]) -> None:
        """These asked for a flush (or a new file), and have it."""
        ...

    def evicted(self, evicted: Evicted) -> None:
        """These had to give way for space, undelivered."""
        ...

    def appeared(self, last_row: int, sums: Totals) -> None:
        """Rows up to `last_row` turned out to be on disk, `sums` of them unannounced."""
        ...

    def replaced(self, last_row: int) -> None:
        """The file was set aside; in the new one rows follow on `last_row`."""
        ...

    def died(self, error: BaseException | None) -> None:
        """The thread has ended; with an error it did so against its will."""
        ...


@dataclass(frozen=True, slots=True)
class Published:
    """What statistics() reads of the writer; replaced as a whole, so it needs no lock."""

    kept: Totals = field(default_factory=Totals)
    first_row: int = 0
    last_row: int = 0
    oldest_received_ns: int = 0
    database_bytes: int = 0
    reserve_bytes: int = 0
    letters: dict[str, LetterCount] = field(default_factory=dict)
    letters_dropped: int = 0
    outlook: Outlook = field(default_factory=Outlook)
    evicted_spans: dict[str, int] = field(default_factory=dict)
