"""A run as Markdown tables, and in docs/performance.md between its two marks."""

import re
from pathlib import Path
from statistics import median

from tests.bench.results import COLLECTOR, OLD, OURS, PURE, ROTEL, Results
from tests.bench.rows import ROWS, UNWATCHED, WATCHED, Row

BEGIN, END = "<!-- written by make bench -->", "<!-- end -->"
LIMIT_SHARE = 0.7  # of what the load reaches: above it, the load may be what was measured


def best(results: Results, row: Row) -> str:
    """The relay as most install it: with the native part, where it was measured."""
    return OURS if OURS in results.programs(row.name) else PURE


def measured_rows(results: Results) -> list[Row]:
    """Those of the run, in their order."""
    return [row for row in ROWS if results.programs(row.name)]


def tables(results: Results) -> str:
    """Everything that the run found."""
    rounds = max((len(each) for row in results.trials.values() for each in row.values()), default=0)
    about = ", ".join(f"{name} {value}" for name, value in results.about.items())
    return "\n".join(
        [
            f"Medians of {rounds} rounds: {about}.",
            "",
            "CPU in µs an item, beside rotel's and the Collector's of the same round:",
            "",
            *_ratios(results),
            "",
            "Items a second, time to an acknowledgement, memory:",
            "",
            *_figures(results),
            *_watched(results),
            *_refusals(results),
        ]
    )


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _ratios(results: Results) -> list[str]:
    has_old = any(OLD in results.programs(row.name) for row in ROWS)
    old_columns = ["÷ old"] if has_old else []
    head = ["row", "relay", "÷ rotel", "Collector ÷ relay", "speed ÷ rotel", "pure Python",
            "÷ rotel", "rotel", "Collector", *old_columns]  # fmt: skip
    lines = [_line(*head), _line(*["---"] * len(head))]
    for row in measured_rows(results):
        ours = best(results, row)
        of_rotel = results.ratio(row.name, ours, ROTEL)
        collector = results.ratio(row.name, COLLECTOR, ours)
        speed = results.ratio(row.name, ours, ROTEL, "items_a_second")
        bars = row.bars
        cells = [
            row.name,
            _number(results.median(row.name, OURS, "cpu_us")),
            _judged(of_rotel, is_met=bars and of_rotel and of_rotel <= bars.of_rotel),
            _judged(collector, is_met=bars and collector and collector >= bars.collector),
            _judged(speed, is_met=bars and speed and speed >= bars.speed),
            _number(results.median(row.name, PURE, "cpu_us")),
            _judged(results.ratio(row.name, PURE, ROTEL), is_met=None),
            _number(results.median(row.name, ROTEL, "cpu_us")),
            _number(results.median(row.name, COLLECTOR, "cpu_us")),
        ]
        if has_old:
            cells.append(_judged(results.ratio(row.name, ours, OLD), is_met=None))
        lines.append(_line(*cells))
    return [*lines, "", "**Bold** reaches the bar that the project has set itself for that row."]


def _figures(results: Results) -> list[str]:
    head = ["row", "program", "items/s", "p50 ms", "p99 ms", "peak MiB", "of the load's limit"]
    lines = [_line(*head), _line(*["---"] * len(head))]
    for row in measured_rows(results):
        for program in results.programs(row.name):
            speed = results.median(row.name, program, "items_a_second") or 0.0
            limit = results.limit(row.name)
            share = speed / limit if limit else 0.0
            cells = [
                row.name,
                program,
                f"{speed:,.0f}",
                _number(results.median(row.name, program, "p50_ms")),
                _number(results.median(row.name, program, "p99_ms")),
                _number(results.most(row.name, program, "resident_mib"), digits=0),
                f"{share:.0%}" + (" (!)" if share > LIMIT_SHARE else ""),
            ]
            lines.append(_line(*cells))
    return lines


def _watched(results: Results) -> list[str]:
    """What an open page costs, and how long its screens take meanwhile."""
    lines = []
    for program in results.programs(WATCHED):
        watched = results.trials[WATCHED][program]
        alone = results.trials.get(UNWATCHED, {}).get(program, {})
        shares = [
            each.items_a_second / alone[number].items_a_second
            for number, each in watched.items()
            if number in alone
        ]
        keeps = f"keeps {median(shares):.0%} of its rate; " if shares else ""
        p50, p99 = (results.median(WATCHED, program, f"page_{of}_ms") for of in ("p50", "p99"))
        lines.append(
            f"- {program} with the page open {keeps}a screen takes {_number(p50)} ms, "
            f"p99 {_number(p99)} ms"
        )
    return ["", *lines] if lines else []


def _refusals(results: Results) -> list[str]:
    found = [
        f"- {program} in “{row}”: {words}"
        for row, programs in results.refused.items()
        for program, words in programs.items()
    ]
    return ["", "Left out:", "", *found] if found else []


def _number(value: float | None, digits: int = 1) -> str:
    if value is None:
        return "-"
    return f"{value:,.{2 if digits and value < 10 else digits}f}"


def _judged(value: float | None, *, is_met: object) -> str:
    if value is None:
        return "-"
    return f"**{value:.2f}**" if is_met else f"{value:.2f}"


def write(page: Path, text: str) -> None:
    """Put `text` between the marks of a page. Raises ValueError where it has none."""
    content = page.read_text()
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(content):
        raise ValueError(f"{page} has no place for the tables: {BEGIN} … {END}")
    page.write_text(pattern.sub(lambda _: f"{BEGIN}\n\n{text}\n\n{END}", content))
