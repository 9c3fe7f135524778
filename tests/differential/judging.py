"""A receiver and seeds in; how often the mock agrees with it, and how it does not, out."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mockcollector import MockCollector
from tests.differential import kinds, servers
from tests.differential.answers import Server
from tests.differential.kinds import Kind
from tests.differential.requests import request_of

RECEIVERS: Final = {
    "relay": (servers.relay, None, kinds.RELAY),
    "collector": (servers.collector, "otel-collector", kinds.COLLECTOR),
}


@dataclass
class Findings:
    """What came of a run. `unknown` are the disagreements of no documented kind."""

    same: int = 0
    known: Counter[Kind] = field(default_factory=Counter)
    unknown: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many requests were sent to both."""
        return self.same + self.known.total() + len(self.unknown)

    def lines(self, name: str) -> Iterator[str]:
        """For people."""
        yield (
            f"{name}: {self.total:,} requests, {self.same:,} answered alike,"
            f" {self.known.total():,} otherwise as documented, {len(self.unknown)} otherwise"
        )
        for kind, times in self.known.most_common():
            yield f"  {times:6,} {kind.words}"
        yield from self.unknown


def compare(name: str, folder: Path, seeds: Sequence[int]) -> Findings:
    """Send the requests of these seeds to a receiver of RECEIVERS and to the mock that plays it."""
    findings = Findings()
    with _both(name, folder) as (ours, theirs):
        for seed in seeds:
            made = request_of(seed)
            mine, other = ours.answer(made), theirs.answer(made)
            if mine.compared == other.compared:
                findings.same += 1
                continue
            documented = RECEIVERS[name][2]
            kind = next((each for each in documented if each.holds(mine, other)), None)
            if kind is None:
                findings.unknown.append(f"{made}\n  the mock: {mine}\n  the {name}: {other}")
            else:
                findings.known[kind] += 1
    return findings


@contextmanager
def _both(name: str, folder: Path) -> Iterator[tuple[Server, Server]]:
    start, profile, _ = RECEIVERS[name]
    with ExitStack() as stack:
        port = stack.enter_context(start(folder))
        mock = stack.enter_context(MockCollector(profile=profile))
        yield stack.enter_context(Server(mock.port)), stack.enter_context(Server(port))
