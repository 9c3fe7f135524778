"""`otlp-relay destination test NAME`: the connection test of a configured destination."""

import sys

import click

from relay.cli.connection import run_configured, tell_step, tell_verdict
from relay.cli.destination_names import configured
from relay.cli.options import config_option, json_option, load_or_exit
from relay.cli.output import say_result


@click.command()
@click.argument("name")
@config_option
@click.option("--span", "with_span", is_flag=True, help="Send a real test span, too.")
@json_option
def test(name: str, config_path: str | None, as_json: bool, with_span: bool) -> None:
    """Test the connection to a destination, step by step. Changes nothing.

    Exits 0 when it passes, 1 when not; what is wrong and what to do is said in a sentence each.
    """
    config = load_or_exit(config_path)
    on_step = None if as_json else tell_step
    chosen = configured(name, config)
    report = run_configured(chosen, config, send_span=with_span, on_step=on_step)
    say_result(report, tell_verdict, as_json=as_json)
    sys.exit(0 if report.passed else 1)
