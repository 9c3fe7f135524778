"""A command and scenarios in; the command run once a setup, several at a time; a card out."""

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from mockcollector.check.card import Card, Result
from mockcollector.check.evidence import Evidence, Finding, Scenario, Verdict, not_applicable
from mockcollector.check.process import run
from mockcollector.check.scenarios import setups_of
from mockcollector.check.scenarios_settings import BASE, PLAIN
from mockcollector.check.setups import Setup, Tls
from mockcollector.check.stage import Authority, Stage
from mockcollector.check.wire import Wire
from mockcollector.signals import Signal

# After the first request of the first run: some exporters retry for less than a second.
_LATE_SECONDS = 0.5
Wires = Mapping[Signal, Wire]
Progress = Callable[[str], None]


class NothingSentError(Exception):
    """The command sent nothing that was accepted; the message says what it did instead."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run, and how. `jobs` runs go on at the same time.

    `authority` None: there are no certificates, so nothing is said of TLS. `is_confirming`: what
    failed is run again.
    """

    command: tuple[str, ...]
    protocol: str
    jobs: int
    authority: Authority | None
    signals: tuple[Signal, ...] = tuple(Signal)
    late_seconds: float = _LATE_SECONDS
    name: str = ""
    is_confirming: bool = True

    def run(self, setup: Setup) -> Wires:
        """One run of the command. Raises OSError when it cannot be started."""
        stage = Stage(
            setup,
            self.signals,
            self.protocol,
            authority=self.authority,
            late_seconds=self.late_seconds,
        )
        limit_seconds = setup.limit_seconds * len(self.signals) + 2 * self.late_seconds
        with stage:
            stage.begin()
            ended = run(self.command, stage.environ(), limit_seconds)
        return stage.wires(ended)


def check(plan: Plan, scenarios: Sequence[Scenario], tell: Progress) -> Card:
    """Run the command through all of it.

    What failed is run once more, with fewer beside it: what fails only once is unsteady. Raises
    OSError when the command cannot be started, NothingSentError when it sends nothing at first.
    """
    tell("a first run, to see what the command sends …")
    first = plan.run(BASE)
    # An exporter that makes the wrong URL of the base may get those of the signals right.
    found = _found(plan, first if _has_any(first) else plan.run(PLAIN))
    tell(f"it sends {', '.join(found.signals)}")
    setups = setups_of(scenarios)
    wires: dict[str, Wires] = {"base": {signal: first[signal] for signal in found.signals}}
    # By itself, so that the command is as fast as in the first run: it must be early to fail.
    late = [each for each in setups if each.is_late]
    wires |= {each.name: found.run(each) for each in late}
    runs = [each for each in setups if each.name not in wires and not _lacks(found, each)]
    for done, (setup, came) in enumerate(_run_all(found, runs), 1):
        wires[setup.name] = came
        tell(f"{done} of {len(runs)}: {setup.name}")
    results = [_judge(found, each, signal, wires) for each in scenarios for signal in found.signals]
    return Card(
        command=found.command,
        protocol=found.protocol,
        signals=found.signals,
        results=tuple(_confirmed(found, results, wires, tell) if plan.is_confirming else results),
        version=importlib.metadata.version("mockcollector"),
        name=found.name,
    )


def _has_any(wires: Wires) -> bool:
    return any(wire.attempts for wire in wires.values())


def _found(plan: Plan, wires: Wires) -> Plan:
    """The plan with the signals that came, and with when the first request of each run comes."""
    signals = tuple(signal for signal, wire in wires.items() if wire.attempts)
    if not signals:
        wire = next(iter(wires.values()))
        words = [f"the command sent nothing to OTEL_EXPORTER_OTLP_ENDPOINT: {wire.story()}"]
        words += wire.output.splitlines()[-5:]
        raise NothingSentError("\n  ".join(words))
    first_at = max(wires[signal].attempts[0].at for signal in signals)
    return replace(plan, signals=signals, late_seconds=first_at + _LATE_SECONDS)


def _lacks(plan: Plan, setup: Setup) -> bool:
    return setup.tls is not Tls.NONE and plan.authority is None


def _run_all(plan: Plan, setups: Sequence[Setup]) -> Iterator[tuple[Setup, Wires]]:
    with ThreadPoolExecutor(plan.jobs) as pool:
        futures = {pool.submit(plan.run, setup): setup for setup in setups}
        for each in as_completed(futures):
            yield futures[each], each.result()


def _judge(plan: Plan, scenario: Scenario, signal: Signal, wires: Mapping[str, Wires]) -> Result:
    if _lacks(plan, scenario.setup):
        words = "cryptography is not installed: install mockcollector[check]"
        return Result(scenario, signal, not_applicable(words), "not run")
    wire = wires[scenario.setup.name][signal]
    others = {name: each[signal] for name, each in wires.items()}
    finding = scenario.judge(Evidence(signal, wire, others))
    return Result(scenario, signal, finding, wire.story())


def _confirmed(
    plan: Plan, results: Sequence[Result], wires: dict[str, Wires], tell: Progress
) -> list[Result]:
    """The results, of which only those failed that fail again."""
    doubtful = {r.scenario.setup.name: r.scenario.setup for r in results if _is_failed(r)}
    again = dict(wires)
    calmer = replace(plan, jobs=max(1, plan.jobs // 2))
    again |= {name: plan.run(setup) for name, setup in doubtful.items() if setup.is_late}
    others = [setup for setup in doubtful.values() if not setup.is_late]
    for done, (setup, came) in enumerate(_run_all(calmer, others), 1):
        tell(f"once more, {done} of {len(others)}: {setup.name}")
        again[setup.name] = came
    confirmed = []
    for result in results:
        if not _is_failed(result):
            confirmed.append(result)
            continue
        second = _judge(plan, result.scenario, result.signal, again)
        if not _is_failed(second):
            words = f"{result.finding.words}; and when it was tried again: {second.finding.words}"
            second = replace(result, finding=Finding(Verdict.UNSTEADY, words))
        confirmed.append(second)
    return confirmed


def _is_failed(result: Result) -> bool:
    return result.verdict is Verdict.FAILED


def certificates(folder: Path) -> Authority | None:
    """Certificates for the scenarios of TLS, or None where the package for it is missing."""
    try:
        from mockcollector.check.certificates import make
    except ImportError:
        return None
    return make(folder)
