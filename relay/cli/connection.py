"""A destination in; its connection tested, each step told as it happens, the report out."""

import os
from collections.abc import Callable
from typing import Final

import anyio
import click

from relay.cli.options import printable
from relay.config import Config, DestinationConfig, resolve_headers
from relay.doctor.connection import test_configured, test_connection
from relay.doctor.report import Report, Step
from relay.model.errors import SecretUnset

MARKS: Final = {"ok": "ok", "failed": "FAILED", "skipped": "-", "warning": "note"}


def run_test(
    destination: DestinationConfig,
    config: Config,
    *,
    send_span: bool,
    on_step: Callable[[Step], None] | None,
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

    async def test() -> Report:
        return await test_connection(
            destination,
            headers=headers,
            send_span=send_span,
            own_addresses=config.ingest.listen,
            on_step=on_step,
        )

    return anyio.run(test)


def run_configured(
    destination: DestinationConfig,
    config: Config,
    *,
    send_span: bool,
    on_step: Callable[[Step], None] | None,
) -> Report:
    """The test of a destination as the configuration has it, with what its preset knows."""

    async def test() -> Report:
        return await test_configured(
            destination,
            os.environ,
            send_span=send_span,
            own_addresses=config.ingest.listen,
            on_step=on_step,
        )

    return anyio.run(test)


def tell_step(step: Step) -> None:
    """A line of the test as it happens."""
    line = f"{MARKS[step.state]:<7} {step.name:<10} {step.seconds * 1000:8.1f} ms  {step.found}"
    click.echo(printable(line))


def tell_verdict(report: Report) -> None:
    """What is wrong and what to do, or that it passed."""
    if not report.passed:
        click.echo(printable(f"{report.wrong}\n  {report.remedy}"))
        return
    click.echo(f"passed{f', in {report.encoding}' if report.encoding else ''}")
