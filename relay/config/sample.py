"""`[destinations.NAME.sample]`: which traces a destination gets, where it is not to get all."""

from msgspec import Struct


class SampleConfig(Struct, frozen=True, kw_only=True):
    """A share of all traces, and those that hold something worth keeping."""

    ratio: float = 1.0
    """The share, from 0 to 1; at 1 nothing is sampled."""
    keep: str = ""
    """A condition in CEL: a trace with any such span is kept whole. Empty: none is."""
    wait_seconds: float = 30.0
    """With `keep`: how long what came waits for the rest of its trace."""

    @property
    def is_on(self) -> bool:
        """Whether anything is sampled."""
        return self.ratio < 1

    @property
    def keeps_whole(self) -> bool:
        """Whether traces are kept for what they hold."""
        return self.is_on and bool(self.keep)
