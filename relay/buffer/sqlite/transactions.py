"""Changes of the file beside requests and acknowledgements: each a transaction of its own.

What somebody asks of the buffer (replay, discard, reading back) runs here, in the writer's thread,
after everything that was settled before it is on disk. So a transaction may trust what the file
says, and what it changes is on disk as a whole or not at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.rows import Group
from relay.buffer.sqlite.types import Totals

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Readmitted:
    """Rows that were readmitted (`LogFile.readmit`), owed to `owed_to` alone.

    `parts` are owed some of them only (`LogFile.owe`): which, and what of it was not owed before.
    """

    group: Group
    owed_to: frozenset[str]
    parts: Mapping[str, tuple[Ranges, Totals]] = field(default_factory=dict)


class Transaction(Generic[Result]):
    """One transaction. It must be short: appends wait for it meanwhile (aim at 20 ms)."""

    # Upkeep of the file, such as vacuum and checkpoints, cannot run inside a transaction: it is one
    # step of its own.
    is_upkeep: ClassVar[bool] = False

    @property
    def need_bytes(self) -> int:
        """About how many bytes it adds to the disk; 0 for one that adds none worth counting."""
        return 0

    def run(self, file: LogFile, *, now_ns: int) -> Result:
        """Do it, in the writer's thread; what is raised undoes it."""
        raise NotImplementedError

    def readmitted(self) -> list[Readmitted]:
        """What the last `run` readmitted: the consumers are told before whoever asked goes on."""
        return []
