"""What was acknowledged, what arrived and what was set aside go in; a row of the table comes out.

The oracle: every id answered 200 arrives at every destination or is in a dead letter with a reason.
An id that arrives again counts as a duplicate, and has to be explained by what was in flight when
the relay was killed or a connection was cut; what is not explained is a problem as a loss is.
Spans, log records and data points are counted apart.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter

from tests.support.load import SIGNALS, signal_of


@dataclass(frozen=True, slots=True)
class Counts:
    """Items, each counted once for each destination.

    `bound`: how many of the duplicates are explained. `filtered` and `sampled` were not for their
    destination.
    """

    acknowledged: int = 0
    delivered: int = 0
    dead: int = 0
    lost: int = 0
    duplicates: int = 0
    bound: int = 0
    filtered: int = 0
    sampled: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(mine + theirs for mine, theirs in zip(_of(self), _of(other), strict=True)))


_of = attrgetter(
    "acknowledged", "delivered", "dead", "lost", "duplicates", "bound", "filtered", "sampled"
)
_shown = attrgetter(
    "acknowledged", "delivered", "filtered", "sampled", "dead", "lost", "duplicates", "bound"
)
COLUMNS = (
    *("trial", "acknowledged", "delivered", "filtered", "sampled out"),
    *("dead", "lost", "duplicates", "of at most"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One trial: what became of the items of each signal.

    `problems` are sentences, of whatever else went wrong.
    """

    trial: str
    signals: Mapping[str, Counts] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def total(self) -> Counts:
        """Of all signals together."""
        return sum(self.signals.values(), Counts())

    @property
    def is_good(self) -> bool:
        """Nothing lost, nothing doubled without reason, nothing else wrong."""
        return not self.problems and all(
            not counts.lost and counts.duplicates <= counts.bound
            for counts in self.signals.values()
        )

    def __add__(self, other: "Row") -> "Row":
        mine, theirs = self.signals, other.signals
        signals = {
            signal: mine.get(signal, Counts()) + theirs.get(signal, Counts())
            for signal in SIGNALS
            if signal in mine or signal in theirs
        }
        return Row(self.trial, signals, self.problems + other.problems)


@dataclass
class Fate:
    """What became of the items owed to one destination.

    `arrived`: every id that it took, in order, repetitions included. `dead`: the ids in its
    dead letters, with the reason. `may_repeat`: the arrivals that may be repetitions.
    """

    arrived: list[str] = field(default_factory=list)
    dead: dict[str, str] = field(default_factory=dict)
    may_repeat: list[str] = field(default_factory=list)


def judge(
    trial: str,
    acknowledged: Collection[str],
    fates: Mapping[str, Fate],
    problems: Iterable[str] = (),
) -> Row:
    """The row of a trial in which `acknowledged` was owed to each of `fates`."""
    row = Row(trial, problems=tuple(problems))
    wanted = set(acknowledged)
    for name, fate in sorted(fates.items()):
        arrived = set(fate.arrived)
        missing = wanted - arrived - fate.dead.keys()
        nameless = sorted(each for each, reason in fate.dead.items() if not reason)
        found = [f"{name}: {len(missing)} lost, such as {min(missing)}"] if missing else []
        if nameless:
            found.append(f"{name}: {len(nameless)} dead letters without a reason")
        columns = (
            wanted,
            wanted & arrived,
            wanted & fate.dead.keys(),
            missing,
            (Counter(fate.arrived) - Counter(arrived)).elements(),
            fate.may_repeat,
        )
        sums = [Counter(map(signal_of, ids)) for ids in columns]
        signals = {
            signal: Counts(*(each[signal] for each in sums))
            for signal in SIGNALS
            if any(each[signal] for each in sums)
        }
        row += Row(trial, signals, tuple(found))
    return row


def table(rows: Iterable[Row]) -> str:
    """The rows under their heads, in columns of text; problems stand under their row."""
    rows = list(rows)
    cells = [(row.trial, *(f"{number:,}" for number in _shown(row.total))) for row in rows]
    widths = [max(len(line[index]) for line in (COLUMNS, *cells)) for index in range(len(COLUMNS))]
    lines = [_line(COLUMNS, widths)]
    for row, line in zip(rows, cells, strict=True):
        lines.append(_line(line, widths))
        lines += [f"  ! {problem}" for problem in row.problems[:10]]
    return "\n".join(lines)


def by_signal(rows: Iterable[Row]) -> list[Row]:
    """A row for each signal, of all trials together; the problems are left to theirs."""
    total = sum(rows, Row(""))
    return [Row(signal, {signal: counts}) for signal, counts in total.signals.items()]


def _line(cells: Iterable[str], widths: Iterable[int]) -> str:
    pairs = list(zip(cells, widths, strict=True))
    first, rest = pairs[0], pairs[1:]
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)])
