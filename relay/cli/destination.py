"""`otlp-relay destination …`: the group of commands; `list` and `show`, the others elsewhere."""

import tomllib
from collections.abc import Mapping
from typing import Any, Final

import click

from relay.cli.client import DaemonRefused, DaemonUnreachable, admin_client
from relay.cli.destination_names import configured
from relay.cli.explain import lines_of as step_lines
from relay.cli.explain import steps_of_destination
from relay.cli.lazy import LazyGroup
from relay.cli.options import config_option, json_option, load_or_exit
from relay.cli.output import print_table, say, say_json
from relay.cli.status import STYLES
from relay.config import Config, DestinationConfig, saved
from relay.config.destinations import ENDPOINT_KEYS
from relay.config.keys import DESTINATION_KEYS
from relay.config.presets import Preset, find
from relay.config.secrets import MASK, Reference, mask_url, parse, read_text
from relay.config.tables import by_first_names
from relay.model.records import Signal
from relay.model.units import FOREVER, format_duration, format_size

STEP_KEYS: Final = frozenset({"match", "redact", "attributes"})  # `explain` tells of these
_URLS: Final = {*ENDPOINT_KEYS, "proxy"}
# Words before a credential (RFC 9110, 11.4): they tell the scheme and are no secret.
_SCHEMES: Final = frozenset({"bearer", "basic", "token", "apikey", "api-key", "lstoken"})

WORST_FIRST: Final = ("blocked", "waiting", "paused", "delivering", "idle")
COLUMNS: Final = {
    "NAME": lambda it: it["name"],
    "SIGNALS": lambda it: ", ".join(it["endpoints"]),
    "ENDPOINT": lambda it: it["endpoint"] or "(unknown)",
    "ENCODING": lambda it: it["encoding"],
    "HEADERS": lambda it: ", ".join(it["header_names"]) or "-",
    "STATE": lambda it: it["state"] or "-",
    "SAVED IN": lambda it: it["source"],
}


@click.group(
    cls=LazyGroup,
    lazy={
        "add": "relay.cli.destination_add:add",
        "test": "relay.cli.destination_test:test",
        "pause": "relay.cli.destination_change:pause",
        "resume": "relay.cli.destination_change:resume",
        "remove": "relay.cli.destination_change:remove",
        "presets": "relay.cli.destination_presets:presets",
    },
)
def destination() -> None:
    """Add, test, list, pause and remove destinations."""


@destination.command("list")
@config_option
@json_option
def list_destinations(config_path: str | None, as_json: bool) -> None:
    """List the destinations of the configuration, and their state if a daemon runs."""
    config = load_or_exit(config_path)
    states = states_of(config)
    found = [summary(each, config, states) for each in config.destinations]
    if as_json:
        say_json({"daemon": states is not None, "destinations": found})
    elif not found:
        say("no destination is configured; `otlp-relay destination add NAME` adds one")
    else:
        print_table(COLUMNS, found, styles=STYLES)
        if states is None:
            say("no daemon responds: states are unknown")


@destination.command()
@click.argument("name")
@config_option
@json_option
def show(name: str, config_path: str | None, as_json: bool) -> None:
    """Show every key of a destination, secrets as references or ***, and its steps."""
    config = load_or_exit(config_path)
    chosen = configured(name, config)
    document = {
        **summary(chosen, config, states_of(config)),
        "keys": keys_of(chosen, config),
        "steps": steps_of_destination(chosen),
        "blocked_reason": chosen.problem or None,
    }
    if as_json:
        say_json(document)
        return
    by = "a command" if document["is_saved_by_command"] else "a person"
    say(f"{name}, in {document['source']}, written by {by}")
    for word, endpoint in document["endpoints"].items():
        say(f"  {word} to {endpoint}")
    for key, value in document["keys"].items():
        if key.endswith("headers"):
            what = key.removesuffix("s").replace("_", " ")
            for header, template in value.items():
                say(f"  {what} {header}: {template}")
        elif value not in (None, ""):
            text = str(value).lower() if isinstance(value, bool) else value
            say(f"  {key:<16} {text}")
    steps = list(step_lines(document["steps"]))
    say(f"  {'steps':<16} {'in this order' if steps else 'none: it gets all as it is'}")
    for line in steps:
        say(f"    {line}")
    if document["state"]:
        say(f"  now {document['state']} {document['reason']}".rstrip())
    if document["blocked_reason"]:
        say(f"  cannot send from here: {document['blocked_reason']}")


def states_of(config: Config) -> dict[tuple[str, str], Any] | None:
    """What the daemon says of each destination, by name and signal; None if none responds."""
    try:
        found = admin_client(config).ask("GET", "/api/status")
    except (DaemonUnreachable, DaemonRefused):
        return None
    return {
        (each["name"], each.get("signal", Signal.TRACES.word)): each
        for each in found["destinations"]
    }


def summary(
    each: DestinationConfig, config: Config, states: Mapping[tuple[str, str], Any] | None
) -> dict[str, Any]:
    """One destination as `list` shows it: names of headers, never their values.

    Its state is that of the signal that fares worst.
    """
    found = [(states or {}).get((each.name, view.signal.word)) for view in each.views]
    now = min(filter(None, found), key=lambda it: WORST_FIRST.index(it["state"]), default=None)
    keys = keys_of(each, config)
    is_ours = each.source is not None and each.source != config.source
    return {
        "name": each.name,
        "endpoint": keys["endpoint"],
        "encoding": each.encoding,
        "endpoints": {view.signal.word: endpoint_of(view, keys) for view in each.views},
        "header_names": list(each.headers),
        "source": str(each.source or "the environment"),
        "is_saved_by_command": bool(is_ours and each.source and saved.is_ours(each.source)),
        "state": now["state"] if now else None,
        "reason": now["reason"] if now else each.problem,
        "waiting_spans": sum(it["waiting_spans"] for it in found if it) if now else None,
    }


def endpoint_of(view: DestinationConfig, keys: Mapping[str, Any]) -> str:
    """The URL of a signal; where it is written with references, as it is written."""
    own = keys.get(f"{view.signal.word}_endpoint")
    written: str = own or keys["endpoint"] or ""
    if own or "${" not in written:
        return own or view.shown_endpoint
    return written if view.signal is view.signals[0] else f"{written}, for {view.signal.word}"


def keys_of(each: DestinationConfig, config: Config) -> dict[str, Any]:
    """Every key as it is written or, where it is not, as it is by preset or default; but for those
    of its steps.
    """
    written = written_table(each, config)
    preset = find(each.preset) if each.preset else None
    keys: dict[str, Any] = {}
    for key, reader in DESTINATION_KEYS.items():
        if key in STEP_KEYS:
            continue
        value = written.get(key, getattr(each, reader.field))
        if key.endswith("headers"):
            keys[key] = {
                name: masked(name, template.reveal(), preset)
                for name, template in getattr(each, key).items()
            }
        elif key == "signals":
            keys[key] = ",".join(signal.word for signal in each.signals)
        elif isinstance(value, bool):
            keys[key] = value
        elif key in written:
            keys[key] = mask_url(str(value)) if key in _URLS else str(value)
        else:
            keys[key] = in_words(key, value)
    return keys


def in_words(key: str, value: object) -> str | None:
    """A value that stands in no file, as it would be written there."""
    field = DESTINATION_KEYS[key].field
    if value is None:
        return FOREVER if field.endswith("_seconds") else None
    if field.endswith("_bytes") and isinstance(value, int):
        return format_size(value)
    if isinstance(value, float):
        return format_duration(value)
    return mask_url(str(value)) if key in _URLS else str(value)


def written_table(each: DestinationConfig, config: Config) -> dict[str, Any]:
    """The table in the file it was read from: references stand in it, not their values."""
    if each.source is None:
        return {}
    raw = tomllib.loads(read_text(each.source))
    if each.source == config.source:
        raw = raw["destinations"][each.name]
    named = by_first_names(raw, DESTINATION_KEYS)
    return dict(named) if isinstance(named, dict) else {}


def masked(name: str, template: str, preset: Preset | None) -> str:
    """A header's template: references and the scheme are shown, other text only where the preset
    says that it is no secret.
    """
    known = {header.name.lower(): header for header in preset.all_headers} if preset else {}
    header = known.get(name.lower())
    if header is not None and not header.is_secret:
        return template
    shown = ""
    for part in parse(template):
        if isinstance(part, Reference):
            shown += str(part)
            continue
        scheme, blank, rest = part.partition(" ")
        is_scheme = not shown and bool(blank) and scheme.lower() in _SCHEMES
        shown += f"{scheme} {MASK if rest else ''}" if is_scheme else MASK
    return shown
