"""The command `mockcollector replay`: a recorded file in, its requests sent to an endpoint out."""

import json
import sys
from typing import TextIO

import click

_ENCODINGS = {"http/protobuf": "protobuf", "http/json": "json"}


@click.command()
@click.argument("file", type=click.File(encoding="utf-8"))
@click.option("--to", "url", required=True, metavar="URL", help="The base URL, without /v1/traces.")
@click.option(
    "--protocol",
    type=click.Choice(list(_ENCODINGS)),
    default="http/protobuf",
    show_default=True,
    help="How the requests are encoded.",
)
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="NAME=VALUE",
    help="Send it with each request. May be repeated.",
)
@click.option("--now", "is_now", is_flag=True, help="Move all times so that the newest is now.")
@click.option("--new-ids", "has_new_ids", is_flag=True, help="Give traces and spans new ids.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object a request.")
def replay(
    *,
    file: TextIO,
    url: str,
    protocol: str,
    headers: tuple[str, ...],
    is_now: bool,
    has_new_ids: bool,
    is_json: bool,
) -> None:
    """Send what FILE recorded to an OTLP/HTTP endpoint, in order; - is stdin.

    FILE holds a request in OTLP's JSON on each line, as `serve --record` and the Collector's file
    exporter write them. The exit code is 1 when a request was not accepted.
    """
    from mockcollector.otlp_lines import LinesError
    from mockcollector.replay import ReplayError
    from mockcollector.replay import replay as replayed
    from mockcollector.rules import Encoding

    pairs = [header.partition("=") for header in headers]
    if not all(sign and name.strip() for name, sign, _ in pairs):
        # The text is left out of the message: it may be a token with its name forgotten.
        raise click.UsageError("--header is written NAME=VALUE")
    refused = sent = 0
    try:
        for sent, each in enumerate(
            replayed(
                file,
                url,
                encoding=Encoding(_ENCODINGS[protocol]),
                headers={name.strip(): value for name, _, value in pairs},
                is_now=is_now,
                has_new_ids=has_new_ids,
            ),
            1,
        ):
            refused += not each.is_accepted
            status = each.status if each.status is not None else "no answer"
            if is_json:
                record = {"number": sent, "signal": each.signal, "status": each.status}
                click.echo(json.dumps(record | {"reason": each.reason}))
            else:
                click.echo(f"{sent} {each.signal} → {status} {each.reason}".rstrip())
    except (ReplayError, LinesError) as error:
        raise click.UsageError(str(error)) from None
    if not sent:
        raise click.ClickException("the file holds no request")
    if refused:
        click.echo(f"{refused} of {sent} requests were not accepted", err=True)
        sys.exit(1)
