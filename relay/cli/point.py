"""`otlp-relay point TOOL`: how a tool, framework or SDK is made to send to this relay."""

import sys
from pathlib import Path
from typing import Any, Final

import click

from relay.cli.options import config_option, json_option, load_or_exit
from relay.cli.output import print_table, say, say_json
from relay.cli.senders import SENDERS, Sender, Step, find
from relay.cli.settings_file import Change, plan
from relay.config import Config
from relay.model.errors import RelayError

COLUMNS: Final = {
    "TOOL": lambda it: it.name,
    "WHAT IT IS": lambda it: it.title,
    "KIND": lambda it: it.kind,
    "SENDS": lambda it: ", ".join(it.signals),
    "WRITTEN BY --write": lambda it: it.writable.file if it.writable else "-",
}


def _complete(_context: click.Context, _argument: click.Parameter, typed: str) -> list[str]:
    return [name for name in SENDERS if name.startswith(typed)]


@click.command()
@click.argument("tool", required=False, shell_complete=_complete)
@click.option("--list", "is_list", is_flag=True, help="List what is known.")
@click.option(
    "--write", is_flag=True, help="Put the settings where the tool reads them, after asking."
)
@click.option("--file", type=click.Path(path_type=Path), help="With --write: another file.")
@click.option("--yes", is_flag=True, help="With --write: do not ask.")
@config_option
@json_option
def point(
    tool: str | None,
    is_list: bool,
    write: bool,
    file: Path | None,
    yes: bool,
    config_path: str | None,
    as_json: bool,
) -> None:
    """Show how a tool or SDK is made to send to this relay.

    \b
      otlp-relay point --list
      otlp-relay point claude-code
      otlp-relay point claude-code --write

    With --write, what the tool's settings hold beside is kept, and the file as it was is kept
    beside it.
    """  # noqa: D301
    if (file or yes) and not write:
        raise click.UsageError("--file and --yes go with --write")
    if is_list:
        _list(as_json=as_json)
        return
    if tool is None:
        raise click.UsageError("name a tool; `otlp-relay point --list` names all")
    sender, config = find(tool), load_or_exit(config_path)
    if write:
        _write(sender, base_of(config), file, has_consent=yes, as_json=as_json)
    elif as_json:
        say_json(document_of(sender, config))
    else:
        say(sender.title, "", *lines_of(sender.steps, base_of(config)))
    if not as_json:
        say(*_folded(notes_for(sender, config)))


def _list(*, as_json: bool) -> None:
    if as_json:
        say_json([_facts(sender) for sender in SENDERS.values()])
    else:
        print_table(COLUMNS, SENDERS.values())


def base_of(config: Config) -> str:
    """The address that senders on this host use."""
    listen = config.ingest.listen[0]
    scheme = "https" if config.ingest.tls_cert else "http"
    host = "localhost" if listen.host == "localhost" else None
    return f"{scheme}://{host}:{listen.port}" if host else f"{scheme}://{listen.reachable}"


def lines_of(steps: tuple[Step, ...], base: str) -> list[str]:
    """The steps as text, each line to be copied as it is."""
    lines: list[str] = []
    for step in steps:
        lines += [f"{step.says}{f'  ({step.file})' if step.file else ''}", ""]
        lines += [f"  {line}".rstrip() for line in step.at(base).splitlines()]
        lines.append("")
    return lines


def notes_for(sender: Sender, config: Config) -> list[str]:
    """What is known beside, that which this relay's configuration makes of it first."""
    untaken = [it for it in sender.signals if it not in {s.word for s in config.taken_signals}]
    notes = []
    if untaken:
        notes.append(
            f"No destination of this relay gets {' or '.join(untaken)}: they are answered with "
            f"404 until one does (`signals` of a destination)."
        )
    if config.ingest.tokens and not sender.is_remote and config.ingest.tokens_for == "all":
        notes.append(
            f"This relay asks for a token: set {sender.headers_variable}="
            '"Authorization=Bearer%20YOUR-TOKEN" as well, with one of its tokens.'
            if sender.headers_variable
            else "This relay asks for a token, and no setting for one is listed here: see the "
            'tool\'s documentation, or let senders on this host do without (tokens_for = "remote").'
        )
    return [*notes, *sender.notes, *(f"Unconfirmed: {text}" for text in sender.unconfirmed)]


def _folded(notes: list[str]) -> list[str]:
    return [f"- {note}" for note in notes]


def document_of(sender: Sender, config: Config) -> dict[str, Any]:
    """All of it, with the address of this relay."""
    base = base_of(config)
    return {
        **_facts(sender),
        "steps": [
            {"says": it.says, "format": it.format, "file": it.file or None, "text": it.at(base)}
            for it in sender.steps
        ],
        "notes": notes_for(sender, config),
    }


def _facts(sender: Sender) -> dict[str, Any]:
    return {
        "name": sender.name,
        "title": sender.title,
        "kind": sender.kind,
        "signals": list(sender.signals),
        "service": sender.service or None,
        "needs_public_address": sender.is_remote,
        "writes": sender.writable.file if sender.writable else None,
        "page": sender.page,
    }


def _write(
    sender: Sender, base: str, file: Path | None, *, has_consent: bool, as_json: bool
) -> None:
    """Raises RelayError for what cannot be written; exits with 1 where the answer is no."""
    step = sender.writable
    if step is None:
        raise RelayError(
            f"{sender.title} has no settings file that this command knows",
            hint=f"`otlp-relay point {sender.name}` shows what to set by hand",
        )
    change = plan(file or Path(step.file).expanduser(), step.at(base), step.format)
    if change.is_needed:
        _ask(change, has_consent=has_consent, is_shown=not as_json)
    backup = change.write()
    if as_json:
        kept = str(backup) if backup else None
        say_json({"file": str(change.path), "changed": change.is_needed, "backup": kept})
        return
    say(f"{change.path}: {'written' if change.is_needed else 'has it all already'}")
    say(*([f"as it was: {backup}"] if backup else []), "")
    say(*lines_of(sender.steps_beside_file, base))


def _ask(change: Change, *, has_consent: bool, is_shown: bool) -> None:
    if is_shown:
        say(*change.difference())
    if has_consent:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked here: add --yes")
    if not click.confirm(f"Write {change.path}?", err=True):
        say("nothing was written", err=True)
        sys.exit(1)
