"""A card in; text at 80 columns, JSON, JUnit XML, an SVG badge or a Markdown page out."""

import json
import textwrap
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

from mockcollector.check.card import Card, Result, signals_of
from mockcollector.check.clauses import Level
from mockcollector.check.evidence import Verdict
from mockcollector.neutral import printable

COLUMNS = 80
_INDENT = " " * 10
_SHOWN = {
    Verdict.PASSED: "passed",
    Verdict.FAILED: "FAILED",
    Verdict.UNSTEADY: "unsteady",
    Verdict.NOT_APPLICABLE: "-",
}
_GREEN, _YELLOW, _RED = "#2e7d32", "#9a6700", "#b3261e"
# What XML 1.0 cannot hold, not even escaped; a program may print it.
_XML_FORBIDDEN = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 65534, 65535), "�")


def summary(card: Card) -> str:
    """The sums, in a line."""
    counts = card.counts
    parts = [f"{counts[Verdict.PASSED]} of {card.judged} passed"]
    parts += [f"{len(failed)} {level} failed" for level in Level if (failed := card.failed(level))]
    if counts[Verdict.UNSTEADY]:
        parts.append(f"{counts[Verdict.UNSTEADY]} unsteady")
    if counts[Verdict.NOT_APPLICABLE]:
        parts.append(f"{counts[Verdict.NOT_APPLICABLE]} not applicable")
    return ", ".join(parts)


def as_text(card: Card) -> str:
    """The card for a terminal; of what failed, all that is known."""
    lines = _wrapped(
        f"{printable(card.title)} · {card.protocol} · {', '.join(card.signals)} ·"
        f" mockcollector {card.version} · {card.made:%Y-%m-%d}",
        indent="",
    )
    lines.append("")
    for results in card.grouped():
        lines += _entry(results, is_partial=len(results) < len(card.signals))
    return "\n".join([*lines, "", *_wrapped(summary(card), indent=""), ""])


def _entry(results: list[Result], *, is_partial: bool) -> Iterator[str]:
    scenario, verdict = results[0].scenario, results[0].verdict
    of = f" ({signals_of(results)})" if is_partial else ""
    head = f"{_SHOWN[verdict]:<10}{scenario.clause.level:<8}{scenario.name}: {scenario.title}{of}"
    yield from _wrapped(head, indent=" " * 18, first="")
    if verdict is Verdict.PASSED:
        return
    if verdict is Verdict.NOT_APPLICABLE:
        yield from _wrapped(results[0].finding.words, indent=" " * 18)
        return
    clause = scenario.clause
    yield from _wrapped(f"{clause.source}: {clause.words}", indent=_INDENT)
    for result in results:
        whose = f"{result.signal}: " if len(results) > 1 else ""
        yield from _wrapped(f"{whose}{result.finding.words}", indent=_INDENT)
        yield from _wrapped(f"on the wire: {result.story}", indent=_INDENT)


def _wrapped(text: str, *, indent: str, first: str | None = None) -> list[str]:
    return textwrap.wrap(
        printable(text),
        COLUMNS,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )


def as_record(card: Card) -> dict[str, Any]:
    """The card as JSON has it."""
    counts = card.counts
    return {
        "name": card.title,
        "command": list(card.command),
        "protocol": card.protocol,
        "signals": list(card.signals),
        "mockcollector": card.version,
        "made": card.made.isoformat(timespec="seconds"),
        "counts": {verdict.replace(" ", "_"): counts[verdict] for verdict in Verdict},
        "results": [
            {
                "scenario": each.scenario.name,
                "title": each.scenario.title,
                "signal": each.signal,
                "level": each.level,
                "source": each.scenario.clause.source,
                "clause": each.scenario.clause.words,
                "verdict": each.verdict,
                "did": each.finding.words,
                "wire": each.story,
            }
            for each in card.results
        ],
    }


def as_json(card: Card) -> str:
    """The same as a text."""
    return json.dumps(as_record(card), indent=2, ensure_ascii=False) + "\n"


def as_junit(card: Card, *, is_strict: bool) -> str:
    """JUnit XML: a suite for each signal. A failure is what makes the exit code 1."""
    counted = {Level.MUST, Level.SHOULD} if is_strict else {Level.MUST}
    root = ET.Element("testsuites", name=_xml(f"OTLP conformance of {card.title}"))
    for signal in card.signals:
        results = [each for each in card.results if each.signal is signal]
        failures = [e for e in results if e.verdict is Verdict.FAILED and e.level in counted]
        skipped = [e for e in results if e.verdict is Verdict.NOT_APPLICABLE]
        suite = ET.SubElement(
            root,
            "testsuite",
            name=signal,
            tests=str(len(results)),
            failures=str(len(failures)),
            skipped=str(len(skipped)),
            timestamp=f"{card.made:%Y-%m-%dT%H:%M:%S}",
        )
        for each in results:
            case = ET.SubElement(
                suite, "testcase", classname=f"otlp.{signal}", name=each.scenario.name
            )
            if each in failures:
                words = _xml(f"{each.level}: {each.finding.words}")
                failure = ET.SubElement(case, "failure", message=words)
                clause = each.scenario.clause
                failure.text = _xml(f"{clause.source}: {clause.words}\non the wire: {each.story}")
            elif each in skipped:
                ET.SubElement(case, "skipped", message=_xml(each.finding.words))
            else:
                out = ET.SubElement(case, "system-out")
                out.text = _xml(f"{each.verdict}: {each.finding.words}\n{each.story}")
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _xml(text: str) -> str:
    return text.translate(_XML_FORBIDDEN)


def as_badge(card: Card) -> str:
    """An SVG in the usual shape: what it is on the left, how many passed on the right."""
    label, value = "OTLP conformance", f"{card.counts[Verdict.PASSED]} of {card.judged}"
    colour = _RED if card.failed(Level.MUST) else _YELLOW if card.failed(Level.SHOULD) else _GREEN
    left, right = 12 + 6.5 * len(label), 12 + 6.5 * len(value)
    width = left + right
    text = 'text-anchor="middle" fill="#fff" font-family="Verdana,sans-serif" font-size="11"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="20" role="img"'
        f' aria-label="{label}: {value}">\n'
        f"<title>{label}: {value}</title>\n"
        f'<rect width="{width:g}" height="20" rx="3" fill="#444"/>\n'
        f'<path d="M{left:g} 0h{right - 3:g}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{right - 3:g}z"'
        f' fill="{colour}"/>\n'
        f'<text x="{left / 2:g}" y="14" {text}>{label}</text>\n'
        f'<text x="{left + right / 2:g}" y="14" {text}>{value}</text>\n'
        "</svg>\n"
    )


def as_markdown(card: Card, note: str = "") -> str:
    """A page for a repository: what failed with all that is known, then the whole as a table."""
    lines = [
        f"# {_cell(card.title)}",
        "",
        _made(card),
        "",
        *([note, ""] if note else []),
    ]
    noteworthy = [
        results
        for results in card.grouped()
        if results[0].verdict in {Verdict.FAILED, Verdict.UNSTEADY}
    ]
    if noteworthy:
        lines += ["## What it does otherwise", ""]
    for results in noteworthy:
        scenario = results[0].scenario
        clause = scenario.clause
        lines += [
            f"### {scenario.name}: {_cell(scenario.title)}",
            "",
            f"{clause.level} · {clause.source}: {_cell(clause.words)}",
            "",
        ]
        for each in results:
            lines.append(f"- {each.signal}, {each.verdict}: {_cell(each.finding.words)}.")
            lines.append(f"  On the wire: {_cell(each.story)}.")
        lines.append("")
    lines += ["## All scenarios", "", "| scenario | | signals | verdict | what it did |"]
    lines.append("|---|---|---|---|---|")
    for results in card.grouped():
        scenario = results[0].scenario
        done = "; ".join(dict.fromkeys(each.finding.words for each in results))
        lines.append(
            f"| {scenario.name}: {_cell(scenario.title)} | {scenario.clause.level} |"
            f" {signals_of(results)} | {results[0].verdict} | {_cell(done)} |"
        )
    return "\n".join(lines) + "\n"


def _made(card: Card) -> str:
    when = f"{card.made:%Y-%m-%d} by mockcollector {card.version}"
    return f"{', '.join(card.signals)} as {card.protocol}, on {when}: {summary(card)}."


def _cell(text: str) -> str:
    """Text that stays what it is in a cell of Markdown."""
    return printable(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
