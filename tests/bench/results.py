"""What a run found: kept as JSON, trial by trial, and asked for medians and ratios.

A ratio is that of two programs in the same round, one after the other, and the median of those:
the machine's speed wanders from round to round, and takes both along.
"""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.trial import Measured

OURS, PURE, OLD, COLLECTOR, ROTEL = "relay", "relay, pure Python", "old", "Collector", "rotel"
FLEET, OLD_FLEET, TWO = "relay of a fleet", "old, of a fleet", "two relays of a fleet"


@dataclass
class Results:
    """Of one run, by row, program and round; a trial that could not be is missing."""

    about: dict[str, Any] = field(default_factory=dict)  # machine and versions
    null_us: list[float] = field(default_factory=list)
    limits: dict[str, list[float]] = field(default_factory=dict)  # items a second, by row
    trials: dict[str, dict[str, dict[int, Measured]]] = field(default_factory=dict)
    refused: dict[str, dict[str, str]] = field(default_factory=dict)  # why one is missing

    def add(self, row: str, program: str, number: int, measured: Measured) -> None:
        """The trial of round `number`."""
        self.trials.setdefault(row, {}).setdefault(program, {})[number] = measured

    def programs(self, row: str) -> list[str]:
        """Those that were measured there, in their order."""
        return list(self.trials.get(row, {}))

    def median(self, row: str, program: str, what: str) -> float | None:
        """Of a field of `Measured`."""
        found = self.trials.get(row, {}).get(program, {})
        return median(getattr(each, what) for each in found.values()) if found else None

    def most(self, row: str, program: str, what: str) -> float | None:
        """The largest of a field of `Measured`."""
        found = self.trials.get(row, {}).get(program, {})
        return max(getattr(each, what) for each in found.values()) if found else None

    def screens(self, row: str, program: str) -> dict[str, list[float]]:
        """How long each screen of the page took in all rounds, in milliseconds, sorted."""
        found: dict[str, list[float]] = {}
        for each in self.trials.get(row, {}).get(program, {}).values():
            for screen, took in each.screens.items():
                found.setdefault(screen, []).extend(took)
        return {screen: sorted(took) for screen, took in found.items() if took}

    def ratio(self, row: str, above: str, below: str, what: str = "cpu_us") -> float | None:
        """Median over rounds of `above` ÷ `below`."""
        trials = self.trials.get(row, {})
        first, second = trials.get(above, {}), trials.get(below, {})
        both = [
            getattr(first[number], what) / getattr(second[number], what)
            for number in first
            if number in second and getattr(second[number], what)
        ]
        return median(both) if both else None

    def limit(self, row: str) -> float | None:
        """Items a second that the load itself reaches there."""
        return median(self.limits[row]) if self.limits.get(row) else None

    def save(self, path: Path) -> None:
        """As JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        trials = {
            row: {
                program: {str(number): each.plain() for number, each in rounds.items()}
                for program, rounds in programs.items()
            }
            for row, programs in self.trials.items()
        }
        content = {**self.__dict__, "trials": trials}
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def load_results(path: Path) -> Results:
    """What `save` wrote, of this version or another: figures of others alone are left out.

    Raises OSError, and ValueError where it is no run or lacks a figure.
    """
    try:
        kept: dict[str, Any] = known_to(Results, json.loads(path.read_text()))
        kept["trials"] = {
            row: {
                program: {int(at): Measured(**known_to(Measured, it)) for at, it in rounds.items()}
                for program, rounds in programs.items()
            }
            for row, programs in kept["trials"].items()
        }
        return Results(**kept)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is no run that this version can show: {error}") from error


def known_to(kind: type, members: dict[str, Any]) -> dict[str, Any]:
    """Those of `members` that are fields of a dataclass."""
    names = {each.name for each in fields(kind)}
    return {name: value for name, value in members.items() if name in names}
