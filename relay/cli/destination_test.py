"""`otlp-relay destination test NAME`: the connection test of a configured destination."""

import sys

import click

from relay.cli.doctor import test_named
from relay.cli.options import config_option, json_option, load_or_exit
from relay.cli.output import say_json


@click.command()
@click.argument("name")
@config_option
@click.option("--span", "with_span", is_flag=True, help="Send a real test span, too.")
@json_option
def test(name: str, config_path: str | None, as_json: bool, with_span: bool) -> None:
    """Test the connection to a destination, step by step, for each of its signals.

    By the running daemon, with its environment, else here. Changes nothing. Logs and metrics are
    tested with a log record and a data point, traces with an empty request.

    Exits 0 when it passes, 1 when not; what is wrong and what to do is said in a sentence each.
    """
    config = load_or_exit(config_path)
    (report,) = test_named(name, config, with_span=with_span, is_shown=not as_json).values()
    if as_json:
        say_json(report)
    sys.exit(0 if report["passed"] else 1)
