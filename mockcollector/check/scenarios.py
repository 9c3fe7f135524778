"""All scenarios, in the order of the card."""

import difflib
import fnmatch
from collections.abc import Iterable, Sequence

from mockcollector.check import scenarios_answers, scenarios_connection, scenarios_settings
from mockcollector.check.evidence import Scenario
from mockcollector.check.scenarios_connection import SINGLES
from mockcollector.check.scenarios_settings import PLAIN
from mockcollector.check.setups import Setup

SCENARIOS: tuple[Scenario, ...] = (
    *scenarios_settings.SCENARIOS,
    *scenarios_answers.SCENARIOS,
    *scenarios_connection.SCENARIOS,
)
# What other runs are compared with: these take place whatever is chosen.
COMPARED = (PLAIN, SINGLES)


class UnknownScenarioError(ValueError):
    """There is no such scenario; the message names one that there is."""


def chosen(only: Iterable[str], skipped: Iterable[str]) -> list[Scenario]:
    """The scenarios of these names, in which * stands for anything; none named: all.

    Raises UnknownScenarioError.
    """
    wanted, unwanted = _names(only), _names(skipped)
    return [
        each
        for each in SCENARIOS
        if (not wanted or each.name in wanted) and each.name not in unwanted
    ]


def setups_of(scenarios: Sequence[Scenario]) -> list[Setup]:
    """The runs that these need, each once. Those that take longest are first."""
    needed = {each.name: each for each in COMPARED}
    needed |= {each.setup.name: each.setup for each in scenarios}
    # What a judge compares with, and which the choice may have left out.
    if "redirect" in needed or "cut-response" in needed:
        needed |= _of("final-400")
    if "stale-connection" in needed:
        needed |= _of("keep-alive")
    if any(name.startswith("tls-") for name in needed):
        needed |= _of("tls")
    return sorted(needed.values(), key=lambda each: -each.limit_seconds)


def _of(name: str) -> dict[str, Setup]:
    return {each.setup.name: each.setup for each in SCENARIOS if each.name == name}


def _names(patterns: Iterable[str]) -> set[str]:
    known = [each.name for each in SCENARIOS]
    names: set[str] = set()
    for pattern in patterns:
        found = fnmatch.filter(known, pattern)
        if not found:
            near = difflib.get_close_matches(pattern, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UnknownScenarioError(
                f"{hint}there is no scenario {pattern!r}; `mockcollector check --list` names them"
            )
        names.update(found)
    return names
