"""`otlp-relay top`: senders, destinations and what happens, on the whole terminal, with keys."""

import importlib.util

import click

from relay.cli.client import admin_client
from relay.cli.options import config_option, load_or_exit
from relay.model.errors import RelayError

RESPONSE_SECONDS = 30.0


@click.command()
@config_option
def top(config_path: str | None) -> None:
    """Watch senders, destinations and what happens, and act on a destination by keys.

    Needs the extra tui: pip install 'otlp-relay[tui]'. Exits 0 when it is left, 1 when no daemon
    responds at the beginning.
    """
    if importlib.util.find_spec("textual") is None:
        raise RelayError(
            "`top` needs Textual, which is not installed", hint="pip install 'otlp-relay[tui]'"
        )
    from relay.cli.top_app import Top

    client = admin_client(load_or_exit(config_path), RESPONSE_SECONDS)
    client.ask("GET", "/api/status")
    Top(client).run()
