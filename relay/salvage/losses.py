"""Tells what was lost with the ids that were not found: which rows, and how many spans. Pure.

Ids follow each other without a gap, and each row holds the sums over all rows before it. So what
lies between two whole rows is known to the span, and what was never there is not called lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite.quarantine import SalvageState
from relay.model.nouns import counted
from relay.model.records import OwedRange, Position
from relay.salvage.scan import Anchor


@dataclass(frozen=True, slots=True)
class Loss:
    """Rows `first`…`last`, both included. Without `is_exact` at least so many spans."""

    first: int
    last: int
    rows: int
    spans: int
    is_exact: bool

    @property
    def range(self) -> OwedRange:
        """All of its rows."""
        return OwedRange(Position(self.first), Position(self.last + 1))


def runs_of(ranges: Ranges, last_row: int) -> list[tuple[int, int]]:
    """Half-open runs of ids that `ranges` touch, none above `last_row`."""
    runs: list[tuple[int, int]] = []
    for start, end in ranges:
        stop = last_row + 1
        if end is not None:
            stop = min(stop, end.row + bool(end.item))
        if runs and start.row <= runs[-1][1]:
            runs[-1] = (runs[-1][0], max(stop, runs[-1][1]))
        elif start.row < stop:
            runs.append((start.row, stop))
    return runs


def losses(
    runs: Sequence[tuple[int, int]],
    anchors: Sequence[tuple[Anchor | None, Anchor | None]],
    state: SalvageState,
) -> list[Loss]:
    """What of `runs` was there, by the whole rows around each."""
    found = []
    for run, (before, after) in zip(runs, anchors, strict=True):
        loss = _loss(run, before, after or _end_of_file(state))
        if loss is not None:
            found.append(loss)
    return found


def _end_of_file(state: SalvageState) -> Anchor | None:
    if not state.total_rows:
        return None
    rows, spans = state.total_rows, state.total_spans
    return Anchor(state.last_row + 1, rows, spans, rows, spans)


def _loss(run: tuple[int, int], before: Anchor | None, after: Anchor | None) -> Loss | None:
    first, end = run
    if before is None and after is not None:
        # The sum over all rows before it says which id the first of the file had.
        first_row = after.row - after.rows_before
        first = max(first, first_row)
        before = Anchor(first_row - 1, 0, 0, 0, 0)
    elif before is None and first <= 1:
        return None  # nothing says that there was any row
    rows, spans, is_exact = end - first, end - first, False
    if before is not None and after is not None:
        rows = min(rows, after.rows_before - before.rows_after)
        is_exact = before.row + 1 == first and after.row == end
        # A row holds a span at least.
        spans = after.spans_before - before.spans_after if is_exact else rows
    if rows <= 0:
        return None
    return Loss(first, end - 1, rows, max(spans, 0), is_exact)


def named(found: Sequence[tuple[int, int]], most: int = 50) -> str:
    """Ids for people, runs of them with a dash."""
    texts = [
        str(first) if first == last else f"{first}\N{EN DASH}{last}" for first, last in found[:most]
    ]
    return ", ".join(texts) + (f" and {len(found) - most} more stretches" * (len(found) > most))


def bound(*, is_exact: bool, is_guess: bool) -> str:
    """What stands before the number of items lost. `is_guess`: it is not known who was owed."""
    return "at most " if is_guess else "" if is_exact else "at least "


def sentence(file: str, state: SalvageState) -> str:
    """What became of `file`: for the log, status and its report."""
    text = f"read back {counted(state.rows, 'row')} ({counted(state.spans, 'item')}) of {file}"
    if state.letters:
        text += f" and {counted(state.letters, 'dead letter')}"
    if state.lost:
        about = bound(is_exact=state.is_exact, is_guess=state.is_guess)
        is_one = state.lost_rows == 1
        text += (
            f"; row{'' if is_one else 's'} {named(state.lost)} {'is' if is_one else 'are'} lost"
            f" ({about}{counted(state.lost_spans, 'item')})"
        )
    elif state.is_exact:
        text += "; nothing that was owed is lost"
    else:
        text += "; whether more was in it cannot be told"
    return text
