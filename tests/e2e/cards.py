"""Stock exporters of five languages through `mockcollector check`, one signal at a time.

`make cards` writes a page for each to docs/cards, and their table. A deviation is on a card only if
two runs agree on it; what they do not agree on is called unsteady.
"""

import argparse
import importlib.metadata
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mockcollector.check import render
from mockcollector.check.card import Card, joined
from mockcollector.check.clauses import Level
from mockcollector.check.evidence import Verdict
from mockcollector.check.runner import Plan, certificates, check
from mockcollector.check.scenarios import chosen
from mockcollector.signals import Signal
from tests.e2e.sender_builds import SOURCES, command_of

PAGES = Path(__file__).parents[2] / "docs" / "cards"
DIAG = "The program shows what the exporter tells its `diag` logger."
TRACING = (
    "Built with the features `reqwest-blocking-client`, `reqwest-rustls` and `gzip-http`. What the"
    " exporter tells goes to `tracing`, which the program does not print."
)
INDEX = """# Cards of stock exporters

How the OTLP/HTTP exporters of OpenTelemetry's SDKs keep to the specification, told by
[`mockcollector check`](../conformance.md). Each is as it comes, with nothing but environment
variables set, and was run with traces, logs and metrics one after the other. What failed was run
again and failed again; each page has what was on the wire.

| exporter | encoding | passed | failed MUST | failed SHOULD | advice not taken | on |
|---|---|---|---|---|---|---|
{rows}

A number is how many scenarios passed of those that can be judged, each counted once a
signal. A scenario is named when one signal at least fails it. `make cards` makes all of this anew;
it builds the programs of `tests/e2e/senders`, which needs their
toolchains. Ruby, PHP and .NET are missing: their packages could not be had where this was made.
"""


@dataclass(frozen=True)
class Exporter:
    """One card: whose, which program, and how it is told what to send."""

    name: str
    program: str
    title: str
    version: Callable[[], str]
    protocol: str = "http/protobuf"
    note: str = ""

    def command(self, signal: Signal) -> tuple[str, ...]:
        """The command that sends this signal alone."""
        words = command_of(self.program)
        if self.program.startswith("java"):
            others = [each for each in Signal if each is not signal]
            return ("env", *(f"OTEL_{each.upper()}_EXPORTER=none" for each in others), *words)
        return words if signal is Signal.TRACES else (*words, signal)


def in_file(name: str, pattern: str) -> Callable[[], str]:
    """What a file of the senders says of a version."""

    def read() -> str:
        found = re.search(pattern, (SOURCES / name).read_text())
        assert found, f"{name} says no {pattern}"
        return found[1]

    return read


def python_version() -> str:
    """Of the exporter in our own environment."""
    return importlib.metadata.version("opentelemetry-exporter-otlp-proto-http")


RUST_VERSION = r'otlp = \{ version = "([^"]+)"'
NODE = in_file("node/package.json", r'exporter-trace-otlp-proto": "([^"]+)"')
JAVA = in_file("java/pom.xml", r"<opentelemetry.version>([^<]+)<")
EXPORTERS = [
    Exporter("python", "python", "Python", python_version),
    Exporter("javascript-protobuf", "node", "JavaScript", NODE, note=DIAG),
    Exporter("javascript-json", "node", "JavaScript", NODE, "http/json", DIAG),
    Exporter("go", "go", "Go", in_file("go/go.mod", r"otlptracehttp v(\S+)")),
    Exporter("java-okhttp", "java", "Java with OkHttp", JAVA),
    Exporter("java-jdk", "java-jdk", "Java with the JDK's client", JAVA),
    Exporter("rust", "rust-card", "Rust", in_file("rust/Cargo.toml", RUST_VERSION), note=TRACING),
]


def card_of(exporter: Exporter, folder: Path, jobs: int) -> Card:
    """Its card, of all signals."""
    cards = []
    for signal in Signal:
        plan = Plan(
            command=exporter.command(signal),
            protocol=exporter.protocol,
            jobs=jobs,
            authority=certificates(folder),
        )
        cards.append(check(plan, chosen([], []), lambda _line: None))
    return joined(cards, f"{exporter.title} {exporter.version()}")


def row_of(name: str, card: Card) -> str:
    """Its line of the table."""

    def names(level: Level) -> str:
        failed = dict.fromkeys(each.scenario.name for each in card.failed(level))
        return ", ".join(failed) or "-"

    cells = [
        f"[{card.title}]({name}.md)",
        card.protocol.removeprefix("http/"),
        f"{card.counts[Verdict.PASSED]} of {card.judged}",
        *(names(level) for level in Level),
        f"{card.made:%Y-%m-%d}",
    ]
    return f"| {' | '.join(cells)} |"


def rows_of_before(index: Path) -> dict[str, str]:
    """The lines of the table as it is, by the name of their page."""
    text = index.read_text() if index.exists() else ""
    found = re.finditer(r"(?m)^\| \[[^]]+\]\(([\w-]+)\.md\) \|.*$", text)
    return {each[1]: each[0] for each in found}


def main() -> int:
    """Make the cards that are asked for; the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help="which; all without")
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--json", type=Path, help="a folder for the cards as JSON")
    parser.add_argument("--pages", type=Path, default=PAGES, help="where; docs/cards without")
    options = parser.parse_args()
    pages: Path = options.pages
    pages.mkdir(exist_ok=True)
    rows = rows_of_before(pages / "README.md")
    for exporter in EXPORTERS:
        if options.names and exporter.name not in options.names:
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            card = card_of(exporter, Path(folder), options.jobs)
        (pages / f"{exporter.name}.md").write_text(render.as_markdown(card, exporter.note))
        rows[exporter.name] = row_of(exporter.name, card)
        kept = [rows[each.name] for each in EXPORTERS if each.name in rows]
        (pages / "README.md").write_text(INDEX.format(rows="\n".join(kept)))
        if options.json is not None:
            (options.json / f"{exporter.name}.json").write_text(render.as_json(card))
        spent = time.monotonic() - began
        print(f"{exporter.name:<22}{render.summary(card)} ({spent:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
