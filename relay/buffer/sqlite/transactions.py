"""Work for the writer's thread beside requests and moves: a job in, its result out.

What somebody asks of the buffer (replay, discard, reading back) runs here, one transaction a job,
after everything that moved before it is on disk. So a job may trust what the file says, and what
it changes is on disk as a whole or not at all.
"""

from typing import Generic, Protocol, TypeVar

from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.rows import Group
from relay.buffer.sqlite.types import Totals

Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


class Landing(Protocol):
    """What a job may tell the event loop's side, once it is committed."""

    def readmitted(self, group: Group, owed_to: frozenset[str]) -> None:
        """`LogFile.readmit` did that: to be said before anything else happens in the loop."""
        ...

    def owed(self, name: str, ranges: Ranges, sums: Totals) -> None:
        """`LogFile.owe` did that; `sums` is what of `ranges` was not owed before."""
        ...


class Job(Protocol[Result_co]):
    """One transaction. A job must be short: appends wait for it meanwhile (aim at 20 ms)."""

    @property
    def need_bytes(self) -> int:
        """About how many bytes it adds to the disk; 0 for one that adds none worth counting."""
        ...

    def run(self, file: LogFile, *, now_ns: int) -> Result_co:
        """Do it, in the writer's thread and inside a transaction; what is raised undoes it."""
        ...

    def landed(self, log: Landing) -> None:
        """It is committed. Called in the event loop, before whoever asked goes on."""
        ...


class Chore(Generic[Result]):
    """A job outside of any transaction: upkeep of the file, such as vacuum and checkpoints.

    Ends in a step of its own; what fails is told like the failure of a job.
    """

    need_bytes = 0

    def run(self, file: LogFile, *, now_ns: int) -> Result:
        """Do it, in the writer's thread."""
        raise NotImplementedError

    def landed(self, log: Landing) -> None:
        """Nothing was added that anybody must know of."""


def perform(job: Job[Result], file: LogFile, *, now_ns: int) -> Result:
    """Run `job` in its transaction, or without one if it is a chore."""
    run = job.run
    if isinstance(job, Chore):
        return run(file, now_ns=now_ns)
    return file.work(lambda it: run(it, now_ns=now_ns))
