"""What the stages may ask of the log, whichever engine keeps it."""

from collections.abc import Sequence
from typing import Protocol

from relay.model.records import DeadLetter, Encoding, Position, Taken


class Consumer(Protocol):
    """What one destination is owed, handed out in order. Kept on disk over restarts.

    What is taken is in flight until it is settled, given back or parked.
    """

    @property
    def name(self) -> str:
        """The destination's name."""
        ...

    async def wait(self) -> None:
        """Return when there may be something to take. May be cancelled."""
        ...

    async def take(self, *, max_bytes: int, max_spans: int, one_encoding: bool) -> Taken | None:
        """The next rows, now in flight; None when nothing is owed."""
        ...

    @property
    def has_more(self) -> bool:
        """Whether anything is owed that is neither in flight nor parked."""
        ...

    async def take_newest(self, encoding: Encoding | None = None) -> Taken | None:
        """The last row that `take` would come to, alone, now in flight; None: there is none.

        With `encoding` the last one that came in so.
        """
        ...

    async def split(self, taken: Taken, spans: int) -> tuple[Taken, Taken]:
        """`taken` in two, both in flight: at the border between rows nearest below so many spans,
        inside the row where there is one. Raises TranscodeError when that cannot be read.
        """
        ...

    def settle(self, taken: Taken, *, status: int, at_ns: int) -> None:
        """`taken` was delivered with HTTP `status`: it is owed no more."""
        ...

    def settle_with(
        self, taken: Taken, dead: Sequence[DeadLetter], *, status: int, at_ns: int
    ) -> None:
        """As `settle`, and `dead` is set aside in the same step."""
        ...

    def give_back(self, taken: Taken) -> None:
        """`taken` is owed as before."""
        ...

    def park(self, taken: Taken, trace_ids: bytes) -> None:
        """`taken` is owed as before, but only `take_parked` hands it out."""
        ...

    async def take_parked(self, place: Position) -> Taken | None:
        """What was parked and begins at `place`, now in flight; None when it is owed no more."""
        ...

    def unpark(self) -> None:
        """What was parked is handed out in its turn again."""
        ...
