"""What was acknowledged, what arrived and what was set aside go in; a row of the table comes out.

The oracle: every id answered 200 arrives at every destination or is in a dead letter with a reason.
An id that arrives again counts as a duplicate, and has to be explained by what was in flight when
the relay was killed or a connection was cut; what is not explained is a problem as a loss is.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Row:
    """One trial. Numbers are spans, each counted once for each destination.

    `bound`: how many of the duplicates are explained. `problems` are sentences, of whatever else
    went wrong.
    """

    trial: str
    acknowledged: int = 0
    delivered: int = 0
    dead: int = 0
    lost: int = 0
    duplicates: int = 0
    bound: int = 0
    problems: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Nothing lost, nothing doubled without reason, nothing else wrong."""
        return not self.lost and self.duplicates <= self.bound and not self.problems

    def __add__(self, other: "Row") -> "Row":
        return Row(
            self.trial,
            self.acknowledged + other.acknowledged,
            self.delivered + other.delivered,
            self.dead + other.dead,
            self.lost + other.lost,
            self.duplicates + other.duplicates,
            self.bound + other.bound,
            self.problems + other.problems,
        )


@dataclass
class Fate:
    """What became of the spans owed to one destination.

    `arrived`: every span id that it took, in order, repetitions included. `dead`: the ids in its
    dead letters, with the reason. `bound`: how many arrivals may be repetitions.
    """

    arrived: list[str] = field(default_factory=list)
    dead: dict[str, str] = field(default_factory=dict)
    bound: int = 0


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
        row += Row(
            trial,
            len(wanted),
            len(wanted & arrived),
            len(wanted & fate.dead.keys()),
            len(missing),
            len(fate.arrived) - len(arrived),
            fate.bound,
            tuple(found),
        )
    return row


COLUMNS = ("trial", "acknowledged", "delivered", "dead", "lost", "duplicates", "of at most")


def table(rows: Iterable[Row]) -> str:
    """The rows under their heads, in columns of text; problems stand under their row."""
    rows = list(rows)
    cells = [
        (
            row.trial,
            *(
                f"{number:,}"
                for number in (
                    row.acknowledged,
                    row.delivered,
                    row.dead,
                    row.lost,
                    row.duplicates,
                    row.bound,
                )
            ),
        )
        for row in rows
    ]
    widths = [max(len(line[index]) for line in (COLUMNS, *cells)) for index in range(len(COLUMNS))]
    lines = [_line(COLUMNS, widths)]
    for row, line in zip(rows, cells, strict=True):
        lines.append(_line(line, widths))
        lines += [f"  ! {problem}" for problem in row.problems[:10]]
    return "\n".join(lines)


def _line(cells: Iterable[str], widths: Iterable[int]) -> str:
    pairs = list(zip(cells, widths, strict=True))
    first, rest = pairs[0], pairs[1:]
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)])
