"""The results of all scenarios, and what they come to."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from mockcollector.check.clauses import Level
from mockcollector.check.evidence import Finding, Scenario, Verdict
from mockcollector.signals import Signal


@dataclass(frozen=True, slots=True)
class Result:
    """What one scenario found of one signal; `story` is what was on the wire."""

    scenario: Scenario
    signal: Signal
    finding: Finding
    story: str

    @property
    def verdict(self) -> Verdict:
        """Passed, failed …"""
        return self.finding.verdict

    @property
    def level(self) -> Level:
        """How binding the clause is."""
        return self.scenario.clause.level


@dataclass(frozen=True, slots=True)
class Card:
    """The results, in the order of the scenarios, for each signal that the command sends."""

    command: tuple[str, ...]
    protocol: str
    signals: tuple[Signal, ...]
    results: tuple[Result, ...]
    version: str
    name: str = ""
    made: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def title(self) -> str:
        """What the card is of."""
        return self.name or " ".join(self.command)

    @property
    def counts(self) -> Counter[Verdict]:
        """How many results there are of each verdict."""
        return Counter(result.verdict for result in self.results)

    @property
    def judged(self) -> int:
        """How many results say something of the exporter."""
        return len(self.results) - self.counts[Verdict.NOT_APPLICABLE]

    def failed(self, *levels: Level) -> list[Result]:
        """The failed results of clauses of these levels, or of all."""
        return [
            result
            for result in self.results
            if result.verdict is Verdict.FAILED and (not levels or result.level in levels)
        ]

    def grouped(self) -> Iterator[list[Result]]:
        """The results of each scenario; signals with the same verdict stand together.

        Where nothing is said of the exporter, those of which it is not for the same reason.
        """
        by_name: dict[str, list[Result]] = {}
        for result in self.results:
            by_name.setdefault(result.scenario.name, []).append(result)
        for results in by_name.values():
            by_finding: dict[tuple[Verdict, str], list[Result]] = {}
            for result in results:
                is_told = result.verdict is Verdict.NOT_APPLICABLE
                words = result.finding.words if is_told else ""
                by_finding.setdefault((result.verdict, words), []).append(result)
            yield from by_finding.values()


def joined(cards: Sequence[Card], name: str) -> Card:
    """Cards of one exporter as one, each made of other signals."""
    first = cards[0]
    order = list(dict.fromkeys(each.scenario.name for card in cards for each in card.results))
    results = [each for card in cards for each in card.results]
    return replace(
        first,
        name=name,
        signals=tuple(signal for card in cards for signal in card.signals),
        results=tuple(sorted(results, key=lambda each: order.index(each.scenario.name))),
    )


def signals_of(results: Iterable[Result]) -> str:
    """The signals of these results, for people."""
    return ", ".join(result.signal for result in results)


def exit_code(card: Card, *, is_strict: bool) -> int:
    """1 when a MUST failed, or with `is_strict` a SHOULD; else 0."""
    levels: Sequence[Level] = (Level.MUST, Level.SHOULD) if is_strict else (Level.MUST,)
    return 1 if card.failed(*levels) else 0
