"""`otlp-relay destination pause | resume | remove`, by the daemon where one runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from relay.cli.client import (
    DaemonClient,
    DaemonRefused,
    NoDaemon,
    admin_client,
    destination_path,
)
from relay.cli.destination_ask import is_terminal
from relay.cli.destination_names import exit_unknown
from relay.cli.options import config_option, json_option, load_or_exit, signal_option
from relay.cli.output import say, say_result
from relay.config import Config, saved
from relay.model.errors import ConfigError
from relay.model.nouns import listed_items
from relay.model.printable import escaped
from relay.model.records import Signal

# The daemon lets a request in flight end before it responds.
CHANGE_SECONDS = 30.0


@click.command()
@click.argument("name")
@config_option
@json_option
def pause(name: str, config_path: str | None, as_json: bool) -> None:
    """Keep what a destination is owed and send it nothing, until `resume`, also across restarts."""
    change(name, "pause", config_path, as_json=as_json)


@click.command()
@click.argument("name")
@config_option
@json_option
def resume(name: str, config_path: str | None, as_json: bool) -> None:
    """Resume sending to a destination; one that is waiting or blocked is retried at once."""
    change(name, "resume", config_path, as_json=as_json)


@click.command()
@click.argument("name")
@config_option
@click.option(
    "--keep-waiting", "waiting", flag_value="keep", help="Keep what waits for it on disk."
)
@click.option("--drop-waiting", "waiting", flag_value="drop", help="Drop what waits for it.")
@signal_option("Only settle what waits of this signal, which it does not get any more.")
@json_option
def remove(
    name: str, config_path: str | None, waiting: str | None, signal: Signal | None, as_json: bool
) -> None:
    """Remove a destination that a command saved, or settle what waits for one that is gone.

    What still waits for it is kept for a later destination of the same name, or dropped; where
    something waits and there is no terminal to ask on, one of the two flags is needed.
    """
    config = load_or_exit(config_path)
    client = admin_client(config, CHANGE_SECONDS)
    path = None if signal else file_to_delete(name, config)
    known = what_waits(name, client)
    # One that left in an earlier reload the brokers of a fleet may know, and no relay.
    may_be_kept = config.fleet is not None and known is not None and waiting == "drop"
    if path is None and not (known and known["is_known"]) and not may_be_kept:
        kept = (
            f"`otlp-relay destination remove {name} --drop-waiting` drops what brokers keep for it"
        )
        exit_unknown(
            name, config, hint=kept if config.fleet and config.destination(name) is None else ""
        )
    if known is None and waiting == "drop":
        raise ConfigError(
            "--drop-waiting needs a running daemon, which holds what waits",
            hint="start it, or use --keep-waiting",
        )
    choice = waiting or choose(name, known)
    if path is not None:
        saved.delete(path)
    done: dict[str, Any] = {"name": name, "deleted": path and str(path), "daemon": None}
    if known is not None:
        is_asked = known["is_known"] or path is None
        done["daemon"] = settle(
            name, choice, client, signal, is_asked=is_asked, is_deleted=path is not None
        )
    say_result(done, tell_removed, as_json=as_json)


def change(name: str, verb: str, config_path: str | None, *, as_json: bool) -> None:
    """Pause or resume by the daemon, which keeps it."""
    config = load_or_exit(config_path)
    try:
        found = admin_client(config).ask("POST", f"{destination_path(name)}/{verb}")
    except NoDaemon as error:
        raise NoDaemon(
            f"no daemon is running, and only a daemon can do this: {error.message}",
            hint="start it, or write `paused = true` into the destination's file",
        ) from None
    say_result(found, tell_changed, as_json=as_json)


def tell_changed(found: Mapping[str, Any]) -> None:
    """What it is now, and what waits."""
    state = "is paused" if found["is_paused"] else "is resumed"
    say(f"{found['name']} {state}; waiting for it: {listed_items(found['waiting_by_signal'])}")


def file_to_delete(name: str, config: Config) -> Path | None:
    """The saved file; None if nothing of that name is configured. Raises NotSaved for others'."""
    chosen = config.destination(name)
    if chosen is None:
        return None
    if chosen.source is None:
        raise saved.NotSaved(f"{name} comes from OTEL_EXPORTER_OTLP_*: change the environment")
    is_in_main = chosen.source == config.source
    if is_in_main or not saved.is_ours(chosen.source):
        what = f"remove [destinations.{name}] there" if is_in_main else "delete it"
        raise saved.NotSaved(
            f"{chosen.source}, which defines {name}, was not written by a command",
            hint=f"{what} yourself, then send the daemon SIGHUP; `remove` again settles what waits",
        )
    return chosen.source


def what_waits(name: str, client: DaemonClient) -> dict[str, Any] | None:
    """What the daemon knows of a destination; None if no daemon runs.

    Raises DaemonUnreachable when one runs that cannot be asked.
    """
    try:
        return {"is_known": True, **client.ask("GET", destination_path(name))}
    except DaemonRefused:
        return {"is_known": False, "waiting_spans": 0, "waiting_by_signal": {}}
    except NoDaemon:
        return None


def choose(name: str, known: Mapping[str, Any] | None) -> str:
    """The word keep or drop, asked for where something waits.

    Raises click.UsageError without a terminal.
    """
    if known is None:
        return "keep"
    if not known["waiting_spans"]:
        return "drop"
    verb = "waits" if known["waiting_spans"] == 1 else "wait"
    words = f"{listed_items(known['waiting_by_signal'])} still {verb} for {name}"
    if not is_terminal():
        raise click.UsageError(f"{words}: say --keep-waiting or --drop-waiting")
    text = f"{words}. Keep them for a later destination of that name, or drop them?"
    return str(click.prompt(escaped(text), type=click.Choice(["keep", "drop"]), err=True))


def settle(
    name: str,
    choice: str,
    client: DaemonClient,
    signal: Signal | None,
    *,
    is_asked: bool,
    is_deleted: bool,
) -> dict[str, Any]:
    """Tell the daemon; of one that it cannot know it is only to look at its configuration.

    Raises DaemonRefused with its reason: the file is deleted by then.
    """
    only = f"&signal={signal.word}" if signal else ""
    try:
        if is_asked:
            return client.ask("DELETE", f"{destination_path(name)}?waiting={choice}{only}")
        client.ask("POST", "/api/reload")
    except DaemonRefused as error:
        if signal or not is_deleted:
            raise
        raise DaemonRefused(
            f"its file is deleted, but the running daemon refused the change: {error.message}",
            hint=f"correct that, then run `otlp-relay destination remove {name}` again",
        ) from None
    return {"waiting": "dropped", "waiting_spans": 0, "waiting_by_signal": {}}


def tell_removed(done: Mapping[str, Any]) -> None:
    """What was done, in sentences."""
    name, told = done["name"], done["daemon"]
    waited = listed_items(told["waiting_by_signal"]) if told else ""
    if done["deleted"]:
        say(f"removed {done['deleted']}")
    if told is None:
        say("no daemon is running: what waits for it stays in the buffer under its name")
    elif told["waiting"] == "dropped" and not told["waiting_by_signal"] and not done["deleted"]:
        say(f"what the brokers kept for {name} was dropped")
    elif told["waiting"] == "dropped":
        verb = "was" if told["waiting_spans"] == 1 else "were"
        say(f"{waited} that waited for {name} {verb} dropped")
    else:
        say(
            f"kept for a later destination named {name}: {waited}; it is owed nothing new; "
            f"`otlp-relay destination remove {name} --drop-waiting` drops them"
        )
