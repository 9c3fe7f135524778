"""`otlp-relay open`: the page of the running daemon, with the token that it wants."""

import tempfile

import click

from relay.cli.client import admin_client
from relay.cli.options import config_option, load_or_exit
from relay.cli.output import say

# Others of this host can read the arguments of a browser, but no file of ours.
REDIRECT = '<!doctype html><meta http-equiv="refresh" content="0; url={url}">\n'


@click.command("open")
@config_option
@click.option("--print", "only_print", is_flag=True, help="Print the address and open nothing.")
def open_page(config_path: str | None, *, only_print: bool) -> None:
    """Open the page in a browser: what comes in, what waits and why, traces, logs, metrics.

    The address holds the admin token behind a `#`, which browsers send to nobody: whoever has the
    address sees all that is kept. Without a browser it is printed. Exits 0 when the daemon
    responds, 1 otherwise.
    """
    client = admin_client(load_or_exit(config_path))
    client.ask("GET", "/api/status")
    url = f"http://{client.address}/#token={client.token()}"
    if not only_print:
        with tempfile.NamedTemporaryFile("w", suffix=".html", delete=False) as file:
            file.write(REDIRECT.format(url=url))
        if click.launch(file.name) == 0:
            return
    say(url)
