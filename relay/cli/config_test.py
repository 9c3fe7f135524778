"""`otlp-relay config test`: what a request would become for a destination, without a daemon."""

import os
import sys
from typing import Any

import anyio
import click

from relay.cli.options import config_option, json_option, load_or_exit
from relay.cli.output import say, say_json
from relay.config import Config, DestinationConfig
from relay.model.errors import ConfigError, UnknownDestination
from relay.model.nouns import counted_items
from relay.model.records import Encoding, Signal


@click.command("test")
@click.argument("file", type=click.File("rb"))
@click.option("--to", "name", required=True, metavar="NAME", help="The destination.")
@config_option
@click.option(
    "--signal",
    type=click.Choice(Signal, case_sensitive=False),
    help="What FILE holds; JSON tells by itself, protobuf is traces without it.",
)
@json_option
def test(
    file: Any, *, name: str, config_path: str | None, signal: Signal | None, as_json: bool
) -> None:
    """Run the steps of a destination over a request in FILE, without a daemon; - is standard input.

    FILE holds an OTLP request, as JSON or as protobuf. It is checked and enriched as on the way
    in, goes through [process] and through the destination's steps. What would be sent is printed
    as OTLP JSON, what became of the items is told beside it, on standard error. Exits 0 if any
    would be sent or was filtered as it should be, 1 when FILE cannot be read as a request.
    """
    config = load_or_exit(config_path)
    body = file.read()
    encoding = Encoding.JSON if body.lstrip()[:1] == b"{" else Encoding.PROTOBUF
    found = signal or _signal_of(body, encoding)
    document = _try(body, encoding, found, config, _view(config, name, found))
    if as_json:
        say_json(document)
    else:
        if document["request"] is not None:
            say(document["request"])
        say(*_told(document, name), err=True)
    if document["failed"]:
        sys.exit(1)


def _signal_of(body: bytes, encoding: Encoding) -> Signal:
    """What a JSON request is of, by its own key; traces where that tells nothing."""
    if encoding is Encoding.PROTOBUF:
        return Signal.TRACES
    from relay.otlp.signals import WIRE

    keys = {wire.lists[Encoding.JSON].entries: wire.signal for wire in WIRE.values()}
    at = {body.find(f'"{key}"'.encode()): signal for key, signal in keys.items()}
    places = [place for place in at if place >= 0]
    return at[min(places)] if places else Signal.TRACES


def _view(config: Config, name: str, signal: Signal) -> DestinationConfig:
    """The destination as it is for `signal`. Raises UnknownDestination, ConfigError."""
    destination = config.destination(name)
    if destination is None:
        raise UnknownDestination.named(name)
    view = destination.view_of(signal)
    if view is not None:
        return view
    words = ", ".join(view.signal.word for view in destination.views)
    raise ConfigError(f"{name} gets no {signal.word}: it gets {words}")


def _try(
    body: bytes, encoding: Encoding, signal: Signal, config: Config, view: DestinationConfig
) -> dict[str, Any]:
    from relay.otlp.signals import WIRE
    from relay.otlp.transcode import to_json
    from relay.traces.trial import try_steps

    async def run() -> Any:
        return await try_steps(
            body, encoding, signal, config=config, destination=view, environ=os.environ
        )

    trial = anyio.run(run)
    parts = [
        each if encoding is Encoding.JSON else to_json(each, signal) for each in trial.fragments
    ]
    request = WIRE[signal].json_request
    return {
        "destination": view.name,
        "signal": signal.word,
        "items": trial.items,
        "sent": trial.sent,
        "processed": dict(trial.processed),
        "filtered": dict(trial.filtered),
        "changed": dict(trial.changed),
        "rejected": trial.rejected,
        "failed": trial.failed,
        "failed_conditions": trial.conditions,
        "request": (request % b",".join(parts)).decode() if parts else None,
    }


def _told(document: dict[str, Any], name: str) -> list[str]:
    """What became of the items, in sentences."""
    signal = document["signal"]
    items = counted_items(document["items"], signal)
    lines = [f"{document['sent']:,} of {items} would be sent to {name}"]
    for key, words in (
        ("rejected", "rejected"),
        ("processed", "by [process]"),
        ("filtered", "filtered"),
        ("changed", "changed"),
    ):
        counts = ", ".join(f"{step} {number:,}" for step, number in document[key].items())
        if counts:
            lines.append(f"  {words}: {counts}")
    if document["failed"]:
        lines.append(f"  {document['failed']:,} could not be finished: they become dead letters")
    for step, why in document["failed_conditions"].items():
        lines.append(f"  {step} could not be told for some items, which counts as false: {why}")
    return lines
