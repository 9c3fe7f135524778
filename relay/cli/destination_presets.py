"""`otlp-relay destination presets [NAME]`: what is known of backends, as text or JSON."""

import shutil
import textwrap
from collections.abc import Iterable

import click

from relay.cli.options import json_option
from relay.cli.output import is_terminal, print_table, say, say_json
from relay.config.presets import PRESETS, HeaderField, KnownRefusal, Preset, find
from relay.config.presets.example import (
    command_of,
    document_of,
    probe_of,
    settings_for,
    settings_of,
    toml_of,
)
from relay.model.errors import ConfigError

INDENT = " " * 14
# In a pipe nothing is folded, so that its words can be found.
PIPE_WIDTH = 10_000


def header_names(preset: Preset) -> str:
    """What is to be given; in parentheses what is optional."""
    given = [each for each in preset.headers if not each.is_fixed]
    return ", ".join(h.name if h.is_required else f"({h.name})" for h in given) or "-"


COLUMNS = {
    "NAME": lambda it: it.name,
    "WHAT IT IS": lambda it: it.title,
    "SIGNALS": lambda it: ", ".join(it.taken_signals),
    "HEADERS": header_names,
    "ENCODING": lambda it: it.encoding,
}


@click.command()
@click.argument("name", required=False)
@json_option
def presets(name: str | None, as_json: bool) -> None:
    """List the backends that this version knows, or show all that is known of one.

    In the list a header in parentheses is optional, and what is asked for stands in braces.
    """
    try:
        chosen = find(name) if name else None
    except ConfigError as error:
        raise click.BadParameter(f"{error.message}: {error.hint}", param_hint="NAME") from None
    if as_json:
        document = document_of(chosen) if chosen else [document_of(p) for p in PRESETS.values()]
        say_json(document)
    elif chosen:
        width = shutil.get_terminal_size().columns if is_terminal() else PIPE_WIDTH
        say(*lines_of(chosen, width))
    else:
        print_table(COLUMNS, PRESETS.values())


def lines_of(preset: Preset, width: int = PIPE_WIDTH) -> list[str]:
    """All of one preset as text, folded at `width`; what is to be copied never is."""
    lines = [line for text in _described(preset) for line in _folded(text, width)]
    lines = [preset.title, "", *lines, "", *toml_of(preset).splitlines()]
    if not preset.is_sender:
        lines += ["", *command_of(preset).splitlines()]
    return lines


def _described(preset: Preset) -> list[str]:
    lines: list[str] = []
    lines += _titled("endpoint", [preset.endpoint, *_variants(preset)])
    lines += _titled("headers", [line for each in preset.headers for line in _header(each)])
    if not preset.is_sender:
        lines += _titled("settings", [f'{key} = "{value}"' for key, value in settings_of(preset)])
        lines += _titled("success", [", ".join(map(str, preset.success_statuses))])
        lines += _titled("signals", _signals(preset))
    lines += _titled("test", [probe_of(preset)])
    lines += _titled("read back", [preset.query_endpoint] if preset.query else [])
    lines += _titled("refusals", [line for each in preset.refusals for line in _refusal(each)])
    lines += _titled("notes", preset.notes)
    lines += _titled("unconfirmed", preset.unconfirmed)
    return [*lines, *_titled("see", [preset.page])]


def _signals(preset: Preset) -> list[str]:
    """What it takes and how, then what it does not take and why."""
    lines = [line for word in preset.taken_signals for line in _signal(word, preset)]
    return [*lines, *(f"not {word}: {fact}" for word, fact in preset.refuses.items())]


def _signal(word: str, preset: Preset) -> list[str]:
    facts = preset.facts_of(word)
    known = [
        *(f'{key} = "{value}"' for key, value in settings_for(preset, word)),
        *(line for each in facts.headers for line in _header(each)),
        *(f"without {name}" for name in facts.without_headers),
        *(line for each in facts.refusals for line in _refusal(each)),
        *facts.notes,
        *facts.unconfirmed,
    ]
    is_default = " (default)" if word in preset.default_signals else ""
    return [f"{word}: {preset.endpoint_of(word)}{is_default}", *(f"  {line}" for line in known)]


def _folded(line: str, width: int) -> list[str]:
    text = line[len(INDENT) :]
    indent = " " * (len(INDENT) + len(text) - len(text.lstrip()) + 2)
    return textwrap.wrap(
        line,
        max(width, 3 * len(INDENT)),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _titled(title: str, texts: Iterable[str]) -> list[str]:
    """The texts in a column, the title before the first; nothing without texts."""
    return [
        f"{title if number == 0 else '':<{len(INDENT)}}{text}" for number, text in enumerate(texts)
    ]


def _variants(preset: Preset) -> list[str]:
    return [f"{url}  ({label})" for label, url in preset.endpoints.items()]


def _refusal(refusal: KnownRefusal) -> list[str]:
    words = f' "{refusal.words}"' if refusal.words else ""
    return [f"{refusal.status}{words}: {refusal.meaning}", f"    {refusal.remedy}"]


def _header(header: HeaderField) -> list[str]:
    kind = "required" if header.is_required else "optional"
    need = "filled in" if header.is_fixed else f"{kind}, {{token}} is: {header.asks}"
    lines = [f"{header.name}: {header.template}  ({need})"]
    return [*lines, f"    {header.found_at}"] if header.found_at else lines
