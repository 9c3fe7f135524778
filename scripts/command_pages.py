"""The commands and the table of senders go in; docs/cli.md, docs/senders and man pages come out.

`make docs` writes them. `python -m scripts.command_pages --check` changes nothing and ends with 1
if a page is not what it would be. The pages are never changed by hand: change `relay/cli`. Man
pages are written only with `--man FOLDER`.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from mockcollector.cli import main as mockcollector
from relay.cli import main as otlp_relay
from relay.cli.senders import SENDERS, Sender

DOCS = Path(__file__).resolve().parent.parent / "docs"
MADE = "<!-- Made by `make docs` of {}: change that and run it. -->"
ROOTS = {"otlp-relay": otlp_relay, "mockcollector": mockcollector}
WIDTH = 90
MAN_WIDTH = 73  # what a terminal of 80 columns leaves between man's margins
KINDS = {
    "agent": "Coding agents",
    "gateway": "Gateways",
    "framework": "Frameworks",
    "sdk": "SDKs by language",
}


def commands(
    name: str, command: click.Command, width: int = WIDTH
) -> Iterator[tuple[str, click.Command, str]]:
    """Each command below, itself first: the words that are typed, the command, its help."""
    with click.Context(
        command, info_name=name, terminal_width=width, max_content_width=width, color=False
    ) as context:
        yield name, command, command.get_help(context)
        if isinstance(command, click.Group):
            for each in command.list_commands(context):
                below = command.get_command(context, each)
                if below is not None and not below.hidden:
                    yield from commands(f"{name} {each}", below, width)


def cli_page() -> str:
    """docs/cli.md: the help of every command, word for word."""
    parts = [
        MADE.format("relay/cli and mockcollector/cli.py"),
        "# Every command",
        (
            "This is what `--help` prints. Exit codes: 0 done, 1 not done, 2 wrong usage; those of "
            "`serve` and of\n`mockcollector run` stand with them. Shells complete commands after "
            "`otlp-relay completion SHELL`."
        ),
    ]
    for root, command in ROOTS.items():
        for name, _, text in commands(root, command):
            level = "##" if name == root else "###"
            plain = "\n".join(line.rstrip() for line in text.splitlines())
            parts.append(f"{level} `{name}`\n\n```text\n{plain}\n```")
    return "\n\n".join(parts) + "\n"


def sender_pages() -> dict[str, str]:
    """docs/senders: a page for each, and a list of them."""
    pages = {f"{sender.name}.md": sender_page(sender) for sender in SENDERS.values()}
    parts = [
        MADE.format("relay/cli/senders"),
        "# Tools, frameworks and SDKs that send to the relay",
        (
            "`otlp-relay point NAME` prints what a page says, with the address of your relay, and\n"
            "`otlp-relay point NAME --write` puts it where the tool reads it, after asking, and\n"
            "keeps the file as it was. Where the list has no such file, you set the variables."
        ),
        (
            "A signal that no destination gets is answered with 404: see `signals` in\n"
            "[configuration](../configuration.md)."
        ),
    ]
    for kind, title in KINDS.items():
        rows = [
            f"| [{it.title}]({it.name}.md) | `{it.name}` | {', '.join(it.signals)} | "
            f"{f'`{it.writable.file}`' if it.writable else '-'} |"
            for it in SENDERS.values()
            if it.kind == kind
        ]
        head = "| sender | name | sends | file of `--write` |\n|---|---|---|---|\n"
        parts.append(f"## {title}\n\n" + head + "\n".join(rows))
    parts.append(
        "What a page calls unconfirmed was read or remembered, but neither seen at its source nor "
        "tried."
    )
    return pages | {"README.md": "\n\n".join(parts) + "\n"}


def sender_page(sender: Sender) -> str:
    """One of them."""
    public = "It sends from its maker's servers: the relay needs a public HTTPS address, see\n"
    parts = [
        MADE.format("relay/cli/senders"),
        f"# {sender.title}",
        f"Sends {_listed(sender.signals)}"
        + (f", as service `{sender.service}`." if sender.service else "."),
        f"{public}[exposing it](../expose.md)." if sender.is_remote else "",
        f"```text\notlp-relay point {sender.name}"
        + (" --write" if sender.writable else "")
        + "\n```",
    ]
    for step in sender.steps:
        language = {"shell": "bash"}.get(step.format, step.format)
        says = step.says.removesuffix(":") + (f", `{step.file}`:" if step.file else ":")
        parts.append(f"{says}\n\n```{language}\n{step.text.strip()}\n```")
    if sender.headers_variable:
        parts.append(
            f"A relay that asks for a token: `{sender.headers_variable}="
            '"Authorization=Bearer%20YOUR-TOKEN"` as well.'
        )
    for title, texts in (("Good to know", sender.notes), ("Unconfirmed", sender.unconfirmed)):
        if texts:
            parts.append(f"## {title}\n\n" + "\n".join(f"- {_code(text)}" for text in texts))
    parts.append(f"## Its own documentation\n\n<{sender.page}>")
    return "\n\n".join(part for part in parts if part) + "\n"


def _listed(words: tuple[str, ...]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _code(text: str) -> str:
    """Names of variables, packages and paths as code, so that no renderer reads marks in them."""
    name = r"(?<![\w`/])((?:[A-Z]+_[A-Z_]+(?:=\w+)?|\w+_\w+)(?: = \"\w+\")?|/v1/\w+)(?![\w`])"
    return re.sub(name, r"`\1`", text)


def man_pages(version: str) -> dict[str, str]:
    """A page of section 1 for each command; those of groups tell what is below."""
    pages = {}
    for root, command in ROOTS.items():
        for name, each, text in commands(root, command, MAN_WIDTH):
            title = name.replace(" ", "-")
            about = each.get_short_help_str(limit=1000) or name
            head = f'.TH "{title.upper()}" 1 "" "{root} {version}"'
            body = [".SH NAME", _roff(f"{title} - {about}"), ".SH SYNOPSIS", ".nf"]
            usage, _, rest = text.partition("\n\n")
            body += [_roff(usage.removeprefix("Usage: ")), ".fi", ".SH DESCRIPTION", ".nf"]
            body += [_roff(rest), ".fi"]
            pages[f"{title}.1"] = "\n".join([head, *body]) + "\n"
    return pages


def _roff(text: str) -> str:
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return "\n".join(
        rf"\&{line}" if line[:1] in (".", "'") else line for line in escaped.split("\n")
    )


def pages() -> dict[Path, str]:
    """Every page that is kept."""
    return {
        DOCS / "cli.md": cli_page(),
        **{DOCS / "senders" / name: text for name, text in sender_pages().items()},
    }


def wrong_pages() -> list[Path]:
    """Those that are absent, not as they would be written, or there without a sender."""
    made = pages()
    found = {path: path.read_text() for path in (DOCS / "senders").glob("*.md")}
    if (DOCS / "cli.md").exists():
        found[DOCS / "cli.md"] = (DOCS / "cli.md").read_text()
    return sorted(path for path in made.keys() | found if made.get(path) != found.get(path))


def main() -> int:
    """Write the pages, or tell what is wrong with them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--man", type=Path, metavar="FOLDER")
    given = parser.parse_args()
    if given.man:
        from relay.version import __version__

        given.man.mkdir(parents=True, exist_ok=True)
        for name, text in man_pages(__version__).items():
            (given.man / name).write_text(text)
        return 0
    wrong = wrong_pages()
    if given.check:
        for path in wrong:
            print(f"{path} is not what relay/cli says: run `make docs`")
        return 1 if wrong else 0
    made = pages()
    for path in wrong:
        if path in made:
            path.parent.mkdir(exist_ok=True)
            path.write_text(made[path])
        else:
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
