"""Which signals a new destination gets: those that were asked for, or more that it takes, too."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import click

from relay.cli.destination_flags import read_table_of
from relay.cli.output import say
from relay.config import Config, DestinationConfig
from relay.config.presets import Preset, known_at
from relay.doctor.adding import failed_of
from relay.doctor.report import Report
from relay.model.errors import ConfigError
from relay.model.records import Signal

Test = Callable[[Sequence[DestinationConfig]], dict[Signal, Report]]


def failed_words(reports: Mapping[Signal, Report]) -> str:
    """That the test failed; of several, of what, and how to go on with what passed. Else empty."""
    failed = failed_of(reports)
    passed = [signal for signal in reports if signal not in failed]
    if not failed or len(reports) == 1:
        return "the test failed" if failed else ""
    words = f"the test failed for {_words(failed)}"
    if not passed:
        return words
    flag = ",".join(signal.word for signal in passed)
    return f"{words} and passed for {_words(passed)}: `--signals {flag}` saves that"


def offer(
    destination: DestinationConfig,
    table: Mapping[str, Any],
    preset: Preset | None,
    config: Config,
    test: Test,
) -> dict[Signal, Report]:
    """Test what else it takes, and ask whether to send that, too; the tests of what is to be sent.

    Needs a terminal.
    """
    found: dict[Signal, Report] = {}
    for signal in _others(destination, preset):
        view = _view_for(signal, destination, table, config)
        if view is None:
            if preset is not None:
                say(f"{signal.word} needs a key of its own: see `destination presets`", err=True)
            continue
        say("", f"whether it takes {signal.word}, too: {view.shown_endpoint}", err=True)
        reports = test((view,))
        for report in failed_of(reports).values():
            say(report.wrong, err=True)
        found |= {each: report for each, report in reports.items() if report.passed}
    if found and click.confirm(f"Also send {_words(found)} there?", err=True):
        return found
    return {}


def hint_of_others(
    destination: DestinationConfig,
    table: Mapping[str, Any],
    preset: Preset | None,
    config: Config,
) -> str:
    """That more could be sent there, and how; empty if not."""
    others = [
        signal
        for signal in _others(destination, preset)
        if preset is not None or _view_for(signal, destination, table, config)
    ]
    if not others:
        return ""
    flag = ",".join(signal.word for signal in sorted({*destination.signals, *others}))
    verb = "takes" if preset else "may take"
    return f"it {verb} {_words(others)}, too: `--signals {flag} --replace` sends them as well"


def _others(destination: DestinationConfig, preset: Preset | None) -> list[Signal]:
    """What a backend may be sent beside what the destination gets; all, where nobody knows.

    Some answer 200 to what they throw away, so what is known of the host counts before a test.
    """
    known = preset or known_at(destination.endpoint)
    may_be = [s for s in Signal if known is None or s.word in known.taken_signals]
    return [signal for signal in may_be if signal not in destination.signals]


def _view_for(
    signal: Signal, destination: DestinationConfig, table: Mapping[str, Any], config: Config
) -> DestinationConfig | None:
    """What the destination would be for this signal, too; None if it needs a key of its own."""
    wider = [each.word for each in (*destination.signals, signal)]
    try:
        read, _warnings = read_table_of(destination.name, {**table, "signals": wider}, config)
    except ConfigError:
        return None
    return read.view_of(signal)


def _words(signals: Iterable[Signal]) -> str:
    return " and ".join(signal.word for signal in sorted(signals))
