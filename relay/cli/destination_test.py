"""`otlp-relay destination test NAME`: the connection test of a configured destination."""

import sys

import click

from relay.cli.connection import run_each, tell_verdict
from relay.cli.destination_names import configured
from relay.cli.options import config_option, json_option, load_or_exit
from relay.cli.output import say_json
from relay.doctor.report import as_document


@click.command()
@click.argument("name")
@config_option
@click.option("--span", "with_span", is_flag=True, help="Send a real test span, too.")
@json_option
def test(name: str, config_path: str | None, as_json: bool, with_span: bool) -> None:
    """Test the connection to a destination, step by step, for each of its signals.

    Changes nothing here. Logs and metrics are tested with a log record and a data point, traces
    with an empty request.

    Exits 0 when it passes, 1 when not; what is wrong and what to do is said in a sentence each.
    """
    config = load_or_exit(config_path)
    views = configured(name, config).views
    reports = run_each(views, config, send_span=with_span, is_shown=not as_json, tell=tell_verdict)
    if as_json:
        say_json(as_document(reports))
    sys.exit(0 if all(report.passed for report in reports.values()) else 1)
