"""The programs that cards are made of get one: the quick scenarios, of every language."""

from pathlib import Path

import pytest

from mockcollector.check.clauses import Level
from mockcollector.check.evidence import Verdict
from mockcollector.check.runner import Plan, certificates, check
from mockcollector.check.scenarios import chosen
from mockcollector.signals import Signal
from tests.e2e.cards import EXPORTERS, Exporter

pytestmark = pytest.mark.e2e
QUICK = ["valid", "base-url*", "headers", "retry-503", "final-400", "partial-success", "warning"]


@pytest.mark.parametrize("exporter", EXPORTERS, ids=lambda exporter: exporter.name)
@pytest.mark.parametrize("signal", list(Signal))
def test_stock_exporter_keeps_the_quick_rules(
    tmp_path: Path, exporter: Exporter, signal: Signal
) -> None:
    plan = Plan(
        command=exporter.command(signal),
        protocol=exporter.protocol,
        jobs=2,
        authority=certificates(tmp_path),
    )

    card = check(plan, chosen(QUICK, []), lambda _line: None)

    assert card.signals == (signal,)
    failed = [(each.scenario.name, each.finding, each.story) for each in card.failed(Level.MUST)]
    assert failed == []
    assert card.counts[Verdict.PASSED] == len(card.results)
