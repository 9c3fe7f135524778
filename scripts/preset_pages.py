"""The presets go in; docs/destinations comes out: a page for each and a list of them.

`scripts/preset-pages` writes them, `scripts/preset-pages --check` changes nothing and ends with 1
if a page is not what the data say. A page is never changed by hand: change relay/config/presets.
"""

import sys
from pathlib import Path

from relay.config.presets import PRESETS, HeaderField, KnownRefusal, Preset
from relay.config.presets.example import (
    command_of,
    probe_of,
    settings_for,
    settings_of,
    toml_of,
    variable_of,
)

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "destinations"
BAR = r"\|"
MADE = "<!-- Made by scripts/preset-pages of relay/config/presets: change that and run it. -->"


def pages() -> dict[str, str]:
    """Every page by its file's name."""
    return {
        "README.md": index(),
        **{f"{preset.name}.md": page(preset) for preset in PRESETS.values()},
    }


def index() -> str:
    """The list of all presets."""
    rows = [
        _row(
            f"[`{each.name}`]({each.name}.md)",
            each.title,
            ", ".join(each.taken_signals),
            _names(each),
            each.encoding,
        )
        for each in PRESETS.values()
    ]
    return "\n".join(
        [
            MADE,
            "",
            "# Backends and senders that the relay knows",
            "",
            "A preset fills in what is known about a backend; what you write yourself wins. The",
            "key `preset` is explained in [configuration](../configuration.md). The commands",
            "`otlp-relay destination presets` and `otlp-relay destination presets NAME` show the",
            "same. A backend that is not in the list needs no preset: set endpoint and headers.",
            "",
            "| preset | what it is | signals | headers (optional ones in parentheses) | encoding |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "What a page calls unconfirmed was read somewhere but has no confirmed source: check",
            "it before you rely on it.",
            "",
        ]
    )


def page(preset: Preset) -> str:
    """The page of one preset."""
    sections = [
        f"{MADE}\n\n# {preset.title}",
        _set_up(preset),
        _section("Endpoint", _endpoints(preset)),
        _section("Headers", _headers(preset.headers)),
        "" if preset.is_sender else _section("Settings", _settings(preset)),
        "" if preset.is_sender else _section("Signals", _signals(preset)),
        _section("Connection test", probe_of(preset)),
        _section("Reading back", _read_back(preset)),
        _section("When it refuses", _refusals(preset.refusals)),
        _section("Good to know", _list(preset.notes)),
        _section("Unconfirmed", _list(preset.unconfirmed)),
        _section("Its own documentation", f"<{preset.page}>"),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}" if body else ""


def _set_up(preset: Preset) -> str:
    toml = f"```toml\n{toml_of(preset)}\n```"
    if preset.is_sender:
        return f"This is a sender, not a destination. In the configuration:\n\n{toml}"
    command = f"```sh\n{command_of(preset)}\n```"
    secret = f"`{variable_of(preset)}`" if f"env:{variable_of(preset)}" in toml else ""
    where = f" Set {secret} in the environment of both command and daemon." if secret else ""
    return (
        "This tests the connection, and saves the destination only if the test passes."
        f"{where}\n\n{command}\n\nor in the configuration:\n\n{toml}"
    )


def _endpoints(preset: Preset) -> str:
    rows = [_row(label, f"`{url}`") for label, url in preset.endpoints.items()]
    table = "\n".join(["| for | URL |", "|---|---|", *rows]) if rows else ""
    left = " and ".join(f"`{{{name}}}`" for name in preset.placeholders)
    first = f"`{preset.endpoint}`" + (f"; replace {left}" if left else "")
    return f"{first}\n\n{table}" if table else first


def _headers(headers: tuple[HeaderField, ...]) -> str:
    if not headers:
        return "None."
    rows = [
        _row(
            f"`{each.name}`",
            f"`{each.template}`",
            _need(each),
            each.asks or "nothing",
            each.found_at or "-",
        )
        for each in headers
    ]
    return "\n".join(
        ["| header | value | | `{token}` is | where to find it |", "|---|---|---|---|---|", *rows]
    )


def _need(header: HeaderField) -> str:
    if header.is_fixed:
        return "filled in"
    return ("required" if header.is_required else "optional") + (
        ", secret" if header.is_secret else ""
    )


def _settings(preset: Preset) -> str:
    rows = [_row(f"`{key}`", f"`{value}`") for key, value in settings_of(preset)]
    known = ", ".join(str(status) for status in preset.success_statuses)
    return "\n".join(
        [
            "| key | what the preset says |",
            "|---|---|",
            *rows,
            "",
            f"It responds with {known} to what it accepts; any status from 200 to 299 counts.",
        ]
    )


def _signals(preset: Preset) -> str:
    rows = [
        _row(signal, f"`{preset.endpoint_of(signal)}`", *_facts(preset, signal))
        for signal in preset.taken_signals
    ]
    table = ["| signal | endpoint | encoding | its own settings |", "|---|---|---|---|", *rows]
    refused = [f"- {signal}: {fact}" for signal, fact in preset.refuses.items()]
    headers = [h for signal in preset.signals for h in preset.signals[signal].headers]
    refusals = tuple(r for facts in preset.signals.values() for r in facts.refusals)
    notes = [
        f"- {signal}: {note}" for signal, facts in preset.signals.items() for note in facts.notes
    ]
    gets = ", ".join(f'"{signal}"' for signal in preset.taken_signals)
    parts = [
        "\n".join(table),
        f"All that it takes: `signals = [{gets}]`." if len(rows) > 1 else "",
        _headers(tuple(headers)) if headers else "",
        _refusals(refusals),
        "\n".join(notes),
        "It does not take:\n\n" + "\n".join(refused) if refused else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _facts(preset: Preset, signal: str) -> tuple[str, str]:
    facts = preset.facts_of(signal)
    own = [
        f'`{key} = "{value}"`' for key, value in settings_for(preset, signal) if key != "encoding"
    ]
    own += [f"without `{name}`" for name in facts.without_headers]
    return facts.encoding or preset.encoding, ", ".join(own) or "-"


def _read_back(preset: Preset) -> str:
    if preset.query is None:
        return ""
    return f"With `--span`, the test then looks for its trace at `{preset.query_endpoint}`."


def _refusals(refusals: tuple[KnownRefusal, ...]) -> str:
    rows = [
        _row(
            str(each.status),
            f"`{each.words}`" if each.words else "anything",
            each.meaning,
            each.remedy,
        )
        for each in refusals
    ]
    table = ["| status | its words | what it means | what to do |", "|---|---|---|---|", *rows]
    return "\n".join(table) if rows else ""


def _row(*cells: str) -> str:
    """A line of a table; a pipe in a cell, even in code, would end it."""
    return f"| {' | '.join(cell.replace('|', BAR) for cell in cells)} |"


def _list(texts: tuple[str, ...]) -> str:
    return "\n".join(f"- {text}" for text in texts)


def _names(preset: Preset) -> str:
    shown = [
        f"`{each.name}`" if each.is_required else f"(`{each.name}`)"
        for each in preset.headers
        if not each.is_fixed
    ]
    return ", ".join(shown) or "-"


def wrong_pages(folder: Path) -> list[str]:
    """Names of pages that are absent, not what the data say, or there without a preset."""
    made = pages()
    found = {path.name: path.read_text() for path in folder.glob("*.md")}
    return sorted(name for name in made.keys() | found if made.get(name) != found.get(name))


def main(arguments: list[str]) -> int:
    """Write the pages, or with --check tell what is wrong with them."""
    wrong = wrong_pages(FOLDER)
    if arguments == ["--check"]:
        for name in wrong:
            print(f"{FOLDER / name} does not match relay/config/presets: run scripts/preset-pages")
        return 1 if wrong else 0
    if arguments:
        print("usage: scripts/preset-pages [--check]", file=sys.stderr)
        return 2
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
    for name in set(wrong) - pages().keys():
        (FOLDER / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
