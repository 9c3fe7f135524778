"""Every scenario passes a sender that keeps its rule and fails one that breaks it, on the wire."""

import sys
from pathlib import Path

import pytest

from mockcollector.check.card import Card
from mockcollector.check.evidence import Verdict
from mockcollector.check.runner import Plan, certificates, check
from mockcollector.check.scenarios import SCENARIOS, chosen
from mockcollector.check.stage import Authority
from mockcollector.signals import Signal

SENDER = (sys.executable, "-I", str(Path(__file__).with_name("sender.py")))
NAMES = [scenario.name for scenario in SCENARIOS]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = certificates(tmp_path_factory.mktemp("certificates"))
    assert made is not None
    return made


def card_of(authority: Authority, *only: str, jobs: int = 4, is_confirming: bool = True) -> Card:
    plan = Plan(
        command=SENDER,
        protocol="http/json",
        jobs=jobs,
        authority=authority,
        is_confirming=is_confirming,
    )
    return check(plan, chosen(only, []), lambda _line: None)


def test_sender_that_keeps_all_rules_passes_every_scenario(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGS", "1")

    card = card_of(authority, jobs=8)

    told = [(each.scenario.name, each.signal, each.finding, each.story) for each in card.results]
    assert [each for each in told if each[2].verdict is not Verdict.PASSED] == []
    assert card.signals == (Signal.TRACES, Signal.LOGS)
    assert len(card.results) == 2 * len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_sender_that_breaks_a_rule_fails_its_scenario(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("BREAK", name)

    card = card_of(authority, name, is_confirming=False)

    (result,) = card.results
    assert result.verdict is Verdict.FAILED, (result.finding, result.story)
