"""Rows as a destination gets them: what its steps leave of each, for whoever looks on.

Of its sampling a row tells only what it holds itself: the rest of a trace may be elsewhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from relay.config import DestinationConfig
from relay.model.errors import UnknownDestination
from relay.model.records import Signal, StoredRow
from relay.otlp.transcode import TranscodeError

if TYPE_CHECKING:
    from relay.process.steps.run import Steps

Seen = Callable[[list[StoredRow]], list[StoredRow]]


class AsDestination:
    """Compiles the steps of a destination once, as long as its settings stay the same."""

    def __init__(self, views: Callable[[], Sequence[DestinationConfig]]) -> None:
        """`views` are the destinations as each of their signals has them now."""
        self._views = views
        self._known: dict[Signal, tuple[DestinationConfig, Steps | None]] = {}

    def __call__(self, name: str, signal: Signal) -> Seen:
        """What makes of rows those that a destination gets; one of which nothing is for it holds
        no items then. Raises UnknownDestination, and ConfigError where its steps are not to be had.
        """
        configured = {view.signal: view for view in self._views() if view.name == name}
        if not configured:
            raise UnknownDestination.named(name)
        settings = configured.get(signal)
        if settings is None:
            return lambda rows: [replace(row, body=b"", items=0) for row in rows]
        known = self._known.get(signal)
        if known is None or known[0] != settings:
            from relay.process.steps.run import steps_of

            known = self._known[signal] = (settings, steps_of(settings))
        steps = known[1]
        return lambda rows: rows if steps is None else [_stepped(row, steps) for row in rows]


def _stepped(row: StoredRow, steps: "Steps") -> StoredRow:
    try:
        stepped = steps.run(row.body, row.encoding, row.signal)
    except TranscodeError:
        return replace(row, body=b"", items=0)
    return replace(row, body=stepped.body, items=stepped.items)
