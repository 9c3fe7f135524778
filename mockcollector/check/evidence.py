"""What a scenario is judged by, and what the judgement is."""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mockcollector.check.clauses import Clause
from mockcollector.check.setups import Setup
from mockcollector.check.wire import Wire
from mockcollector.signals import Signal


class Verdict(enum.StrEnum):
    """What is said of an exporter in a scenario."""

    PASSED = "passed"
    FAILED = "failed"
    UNSTEADY = "unsteady"  # failed once, and not when it was tried again
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict, and in a sentence what the exporter did."""

    verdict: Verdict
    words: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """The wire of one signal in the scenario's own run; and in the others, by setup."""

    signal: Signal
    wire: Wire
    others: Mapping[str, Wire]

    @property
    def plain(self) -> Wire:
        """The run in which everything is answered with success."""
        return self.others["plain"]


Judge = Callable[[Evidence], Finding]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One line of the card."""

    name: str
    title: str
    clause: Clause
    setup: Setup
    judge: Judge


def passed(words: str) -> Finding:
    """It keeps to the clause."""
    return Finding(Verdict.PASSED, words)


def failed(words: str) -> Finding:
    """It does not."""
    return Finding(Verdict.FAILED, words)


def not_applicable(words: str) -> Finding:
    """It cannot be said of this exporter, or of this command."""
    return Finding(Verdict.NOT_APPLICABLE, words)
