"""Makes the flags of a command the table of a destination, as a file would have it.

Each key of a destination is a flag. Values mean what they mean in a file: ${env:NAME}, ${file:PATH}
and ${credential:NAME} are references, $$ is a dollar. Only paths start elsewhere: at the folder
where the command is typed, and so they are made absolute.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from relay.config import HEADER_NAME, Config, DestinationConfig
from relay.config.keys import DESTINATION_KEYS
from relay.config.secrets import has_reference
from relay.doctor.adding import read_table
from relay.model.errors import ConfigError

Command = TypeVar("Command", bound=Callable[..., Any])

# The preset first, since it fills in the others; headers and the pause stand apart.
FLAGS: Final = {
    key: DESTINATION_KEYS[key]
    for key in dict.fromkeys(("preset", *DESTINATION_KEYS))
    if DESTINATION_KEYS[key].help
}
_SIGNAL_HEADERS: Final = ("logs_headers", "metrics_headers")
_HEADER: Final = re.compile(rf"({HEADER_NAME.pattern})\s*[=:]\s*(.*)", re.DOTALL)


def destination_options(command: Command) -> Command:
    """All keys of a destination as options; `table_of` makes a table of what is given."""
    options = [
        click.option(
            *(f"--{name.replace('_', '-')}" for name in (key, flag.also) if name),
            key,
            type=int if flag.metavar == "N" else str,
            metavar=flag.metavar,
            help=flag.help,
        )
        for key, flag in FLAGS.items()
    ]
    options[2:2] = [
        click.option(
            "--header",
            "header",
            multiple=True,
            metavar="NAME=VALUE",
            help="A header; may be given several times. Put ${env:NAME} in single quotes.",
        ),
        click.option(
            "--headers",
            "headers",
            metavar="JSON",
            help="Headers as one JSON object, as OpenRouter takes them.",
        ),
        *(
            click.option(
                f"--{key.removesuffix('s').replace('_', '-')}",
                key,
                multiple=True,
                metavar="NAME=VALUE",
                help=f"A header of requests with {key.partition('_')[0]} only; may be repeated. "
                "Without a value it removes that header.",
            )
            for key in _SIGNAL_HEADERS
        ),
    ]
    options.append(
        click.option("--paused", "paused", is_flag=True, help="Keep what it is owed, send nothing.")
    )
    for option in reversed(options):
        command = option(command)
    return command


def table_of(flags: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, by key. Raises click.UsageError, which repeats no header's value."""
    table: dict[str, Any] = {
        key: flags[key] for key in FLAGS if flags.get(key) is not None and flags[key] != ""
    }
    for key, flag in FLAGS.items():
        if flag.metavar == "FILE" and key in table and not _is_reference(table[key]):
            table[key] = str(Path(table[key]).absolute())
    if flags.get("paused"):
        table["paused"] = True
    headers = headers_of(flags.get("header") or (), flags.get("headers") or "")
    if headers:
        table["headers"] = headers
    for key in _SIGNAL_HEADERS:
        if laid_over := headers_of(flags.get(key) or (), "", may_be_empty=True):
            table[key] = laid_over
    return table


def headers_of(
    single: Iterable[str], as_json: str, *, may_be_empty: bool = False
) -> dict[str, str]:
    """Names and templates of `--header` and `--headers`. Raises click.UsageError."""
    pairs: list[tuple[str, object]] = []
    if as_json:
        try:
            found = json.loads(as_json, object_pairs_hook=_Pairs)
        except ValueError:
            # Its message and the chain would show what was typed.
            found = None
        if not isinstance(found, _Pairs):
            raise click.UsageError(
                '--headers takes one JSON object, such as \'{"Authorization": "Bearer …"}\''
            )
        pairs += found
    for text in single:
        match = _HEADER.fullmatch(text)
        if match is None:
            raise click.UsageError("--header takes NAME=VALUE, such as 'X-Axiom-Dataset=traces'")
        pairs.append((match[1], match[2]))
    headers: dict[str, str] = {}
    for name, value in pairs:
        _check(name, value, headers, may_be_empty=may_be_empty)
        headers[name] = str(value)
    return headers


def _check(name: str, value: object, headers: Mapping[str, str], *, may_be_empty: bool) -> None:
    if name.lower() in {each.lower() for each in headers}:
        raise click.UsageError(f"the header {name[:100]} is given twice")
    if not isinstance(value, str):
        raise click.UsageError(f"--headers: the value of {name[:100]} must be a string")
    if may_be_empty and not value:
        return
    if not value.strip() or value.strip().lower() in {"bearer", "basic"}:
        raise click.UsageError(
            f"the header {name[:100]} has no value: in double quotes the shell expands "
            "${…} itself; put ${env:NAME} in single quotes"
        )


class _Pairs(list[tuple[str, object]]):
    """The members of a JSON object in order, a name that stands twice included."""


def _is_reference(template: str) -> bool:
    try:
        return has_reference(template)
    except ConfigError:
        return True  # the reader of the table says what is wrong with it


def read_table_of(
    name: str, table: Mapping[str, Any], config: Config
) -> tuple[DestinationConfig, list[str]]:
    """The destination that a file with this table would be here, and warnings of it.

    Raises ConfigProblems as the daemon would.
    """
    return read_table(name, table, config, os.environ)
