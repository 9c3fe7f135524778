"""The connection test of a destination for commands, each step told as it happens."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import anyio

from relay.cli.output import say
from relay.config import Config, DestinationConfig, resolve_headers
from relay.doctor.connection import test_configured, test_connection
from relay.doctor.report import Report, Step
from relay.model.errors import SecretUnset
from relay.model.records import Signal

MARKS: Final = {"ok": "ok", "failed": "FAILED", "skipped": "-", "warning": "note"}
OnStep = Callable[[Step], None] | None
Run = Callable[..., Report]


def run_test(
    destination: DestinationConfig,
    config: Config,
    *,
    send_span: bool,
    on_step: OnStep,
) -> Report:
    """The connection test with the secrets as they are here; without one of them, a failed one."""
    try:
        headers = resolve_headers(destination, os.environ)
    except SecretUnset as error:
        return Report(
            steps=(),
            passed=False,
            wrong=f"not tested: {error.message}",
            remedy="set it here too, or save with --save-anyway if only the daemon has it",
        )
    return anyio.run(
        partial(
            test_connection,
            destination,
            headers=headers,
            send_span=send_span,
            own_addresses=config.ingest.listen,
            on_step=on_step,
        )
    )


def run_configured(
    destination: DestinationConfig, config: Config, *, send_span: bool, on_step: OnStep
) -> Report:
    """The test of a destination as the configuration has it, with what its preset knows."""
    return anyio.run(
        partial(
            test_configured,
            destination,
            os.environ,
            send_span=send_span,
            own_addresses=config.ingest.listen,
            on_step=on_step,
        )
    )


def run_each(
    views: Sequence[DestinationConfig],
    config: Config,
    *,
    send_span: bool,
    is_shown: bool,
    run: Run = run_configured,
    tell: Callable[[Report], None] | None = None,
) -> dict[Signal, Report]:
    """The test of each view in turn; if it `is_shown`, its steps under a heading where there are
    several, then what `tell` says of it.
    """
    reports = {}
    for view in views:
        if is_shown and len(views) > 1:
            say(f"{view.signal.word}: {view.shown_endpoint}")
        on_step = tell_step if is_shown else None
        report = reports[view.signal] = run(view, config, send_span=send_span, on_step=on_step)
        if is_shown and tell is not None:
            tell(report)
    return reports


def tell_step(step: Step) -> None:
    """A line of the test as it happens."""
    say(f"{MARKS[step.state]:<7} {step.name:<10} {step.seconds * 1000:8.1f} ms  {step.found}")


def tell_verdict(report: Report) -> None:
    """What is wrong and what to do, or that it passed."""
    if report.passed:
        say(f"passed{f', in {report.encoding}' if report.encoding else ''}")
    else:
        say(report.wrong, f"  {report.remedy}")
