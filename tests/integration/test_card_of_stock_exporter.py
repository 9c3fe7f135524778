"""Python's own exporter gets a card: what is known of it, told by its requests."""

import sys
from pathlib import Path

import pytest

from mockcollector.check.evidence import Verdict
from mockcollector.check.runner import Plan, certificates, check
from mockcollector.check.scenarios import chosen
from mockcollector.signals import Signal

SENDER = Path(__file__).parents[1] / "e2e" / "senders" / "python" / "sender.py"
KEEPS = [
    *("valid", "user-agent", "base-url*", "signal-url*", "headers*", "compression"),
    *("retry-503", "retry-after-seconds", "final-400", "final-500", "partial-success", "cut"),
    *("stale-connection", "shutdown", "tls*"),
]


@pytest.mark.parametrize("signal", list(Signal))
def test_stock_exporter_keeps_what_it_is_known_to_keep(tmp_path: Path, signal: Signal) -> None:
    arguments = [] if signal is Signal.TRACES else [str(signal)]
    plan = Plan(
        command=(sys.executable, str(SENDER), *arguments),
        protocol="http/protobuf",
        jobs=4,
        authority=certificates(tmp_path),
    )

    card = check(plan, chosen(KEEPS, []), lambda _line: None)

    assert card.signals == (signal,)
    failed = [(each.scenario.name, each.finding, each.story) for each in card.failed()]
    assert failed == []
    assert card.counts[Verdict.PASSED] >= 18
