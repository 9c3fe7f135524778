"""A run as Markdown tables, and in docs/performance.md between its two marks."""

import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tests.bench.results import COLLECTOR, FLEET, OLD, OURS, PURE, ROTEL, TWO, Results
from tests.bench.rows import (
    LEAST_PACE,
    MOST_MIB,
    MOST_SCREEN_MS,
    PACED,
    ROWS,
    UNWATCHED,
    Row,
)

BEGIN, END = "<!-- written by make bench -->", "<!-- end -->"
BEGIN_FLEET = "<!-- of the fleet, written by make bench -->"
LEAST_OF_TWO = 1.7  # times what one relay of a fleet takes
LIMIT_SHARE = 0.7  # of what the load reaches: above it, the load may be what was measured


def best(results: Results, row: Row) -> str:
    """The relay as most install it: with the native part, where it was measured."""
    return OURS if OURS in results.programs(row.name) else PURE


def measured_rows(results: Results) -> list[Row]:
    """Those of the run, in their order, but for the fleet's."""
    return [row for row in ROWS if results.programs(row.name) and not row.is_fleet]


def everything(results: Results) -> str:
    """What the page has of a run."""
    return "\n\n".join(_parts(results).values())


def _parts(results: Results) -> dict[str, str]:
    """By the mark that each stands behind on the page; what was not measured is left out."""
    parts = {}
    if measured_rows(results):
        parts[BEGIN] = tables(results)
    if any(row.is_fleet and results.programs(row.name) for row in ROWS):
        parts[BEGIN_FLEET] = fleet_table(results)
    return parts


def tables(results: Results) -> str:
    """What the run found of relays that stand alone."""
    return "\n".join(
        [
            _about(results),
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


def fleet_table(results: Results) -> str:
    """What it found of a fleet beside one host, and what two relays take on paper."""
    head = ["row", "program", "CPU µs a span", "÷ one host", "brokers' CPU µs a span",
            "spans/s on two cores", "p50 ms", "p99 ms", "peak MiB"]  # fmt: skip
    lines = [_line(*head), _line(*["---"] * len(head))]
    for row in ROWS:
        for program in results.programs(row.name) if row.is_fleet else ():
            beside = results.ratio(row.name, program, OURS) if program != OURS else None
            brokers_us = results.median(row.name, program, "brokers_us")
            cells = [
                row.name.removesuffix(", fleet"),
                "one host" if program == OURS else program,
                _number(results.median(row.name, program, "cpu_us")),
                _judged(beside, is_met=None),
                _number(brokers_us or None),
                _number(results.median(row.name, program, "items_a_second"), digits=0),
                _number(results.median(row.name, program, "p50_ms")),
                _number(results.median(row.name, program, "p99_ms")),
                _number(results.most(row.name, program, "resident_mib"), digits=0),
            ]
            lines.append(_line(*cells))
    return "\n".join([_about(results), "", *lines, "", *_on_paper(results)])


def _on_paper(results: Results) -> Iterator[str]:
    """What two relays take beside one, each on a core of its own, of each row."""
    for row in ROWS:
        one, two = (results.median(row.name, name, "cpu_us") for name in (FLEET, TWO))
        ratio = results.ratio(row.name, FLEET, TWO)
        brokers_us = results.median(row.name, TWO, "brokers_us")
        if row.is_fleet and one and two and ratio and brokers_us:
            together = 2e6 / two
            yield (
                f"- {row.name.removesuffix(', fleet')}: one relay takes {1e6 / one:,.0f} spans a "
                f"second, two take {together:,.0f}, "
                f"{_judged(2 * ratio, is_met=2 * ratio >= LEAST_OF_TWO)} times one's. For that "
                f"the brokers need {brokers_us * together / 1e6:.1f} cores, all three together. "
                f"{_without_the_clock(results, row.name)}"
            )


def _without_the_clock(results: Results, row: str) -> str:
    """The same with what each relay takes while nothing comes counted once."""
    one, two = (results.median(row, name, "on_own_cores") or 0.0 for name in (FLEET, TWO))
    times = results.ratio(row, TWO, FLEET, "on_own_cores") or 0.0
    idle = (results.median(row, TWO, "idle_cores") or 0.0) / 2
    return (
        f"With what goes by the clock ({idle:.1%} of a core a relay) counted once, not for each "
        f"span: {one:,.0f} and {two:,.0f}, {_judged(times, is_met=times >= LEAST_OF_TWO)} times."
    )


def _about(results: Results) -> str:
    rounds = max((len(each) for row in results.trials.values() for each in row.values()), default=0)
    about = ", ".join(f"{name} {value}" for name, value in results.about.items())
    return f"Medians of {rounds} rounds: {about}."


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
        # Runs that were kept earlier tell only how fast it was taken.
        speed = results.ratio(row.name, ours, ROTEL, "delivered_a_second") or results.ratio(
            row.name, ours, ROTEL, "items_a_second"
        )
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
    head = ["row", "program", "taken/s", "delivered/s", "p50 ms", "p99 ms", "peak MiB",
            "of the load's limit"]  # fmt: skip
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
                _number(results.median(row.name, program, "delivered_a_second") or None, digits=0),
                _number(results.median(row.name, program, "p50_ms")),
                _number(results.median(row.name, program, "p99_ms")),
                _number(results.most(row.name, program, "resident_mib"), digits=0),
                f"{share:.0%}" + (" (!)" if share > LIMIT_SHARE else ""),
            ]
            lines.append(_line(*cells))
    return lines


def _watched(results: Results) -> list[str]:
    """What an open page costs, and how long each of its screens takes meanwhile."""
    rows = [row for row in measured_rows(results) if row.is_watched]
    if not rows:
        return []
    head = ["with the page open", "program", "ingest keeps", "screen", "p50 ms", "p99 ms"]
    lines = ["", _line(*head), _line(*["---"] * len(head))]
    for row in rows:
        for program in results.programs(row.name):
            share = _share_kept(results, row, program)
            kept = f"{share:.0%}" if share else "-"
            is_met = row.pace and share and share >= LEAST_PACE
            cells = [row.name, program, f"**{kept}**" if is_met else kept]
            for screen, took in sorted(results.screens(row.name, program).items()):
                p50, p99 = took[len(took) // 2], took[len(took) * 99 // 100]
                is_quick = row.pace and p50 < MOST_SCREEN_MS
                lines.append(
                    _line(*cells, f"`{screen}`", _judged(p50, is_met=is_quick), _number(p99))
                )
    bars = (
        f"**Bold** where 1,000 items a second arrive and {PACED['kept']:,} traces are kept: at "
        f"least {LEAST_PACE:.0%} of that pace, half of the answers within {MOST_SCREEN_MS:.0f} ms. "
        f"The peak of every row may be {MOST_MIB:.0f} MiB."
    )
    return [*lines, "", bars]


def _share_kept(results: Results, row: Row, program: str) -> float | None:
    """Of its pace; without one, of what it takes in without the page."""
    if row.pace:
        speed = results.median(row.name, program, "items_a_second")
        return speed / row.pace if speed else None
    watched = results.trials[row.name][program]
    alone = results.trials.get(UNWATCHED, {}).get(program, {})
    shares = [
        each.items_a_second / alone[number].items_a_second
        for number, each in watched.items()
        if number in alone
    ]
    return median(shares) if shares else None


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


def write_all(page: Path, results: Results) -> list[str]:
    """Put what was measured on the page; the marks that it stands behind."""
    parts = _parts(results)
    for begin, text in parts.items():
        write(page, text, begin)
    return list(parts)


def write(page: Path, text: str, begin: str = BEGIN) -> None:
    """Put `text` between two marks of a page. Raises ValueError where it has none."""
    content = page.read_text()
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(content):
        raise ValueError(f"{page} has no place for the tables: {begin} … {END}")
    page.write_text(pattern.sub(lambda _: f"{begin}\n\n{text}\n\n{END}", content))
