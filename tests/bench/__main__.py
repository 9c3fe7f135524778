"""`make bench`: relays side by side on this machine, each pinned to one core, in turn.

Load and upstream have the other core. In each round every program takes the same requests of a row,
one program after the other, and the ratios are those of a round: machines are noisy, and seconds
say little. What is measured is the CPU of the whole process until everything is delivered.

What a run found is kept as JSON in ~/.cache/otlp-relay/bench, from the first trial on.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from tests.bench import chart, programs, quick, report
from tests.bench.processes import LOAD_CORE
from tests.bench.results import COLLECTOR, OLD, OURS, PURE, ROTEL, Results, load_results
from tests.bench.rows import ROWS, Row
from tests.bench.trial import loads_own_limit, measure, null_server_us

PAGE = programs.ROOT / "docs" / "performance.md"
PICTURE = PAGE.with_suffix(".svg")
WORDS = {"relay": OURS, "pure": PURE, "old": OLD, "collector": COLLECTOR, "rotel": ROTEL}


def main() -> None:
    """Measure what is asked for, or show or check what was."""
    options = parse(sys.argv[1:])
    os.sched_setaffinity(0, {LOAD_CORE})
    if options.quick:
        sys.exit(quick.run(options.runs, is_to_be_kept=options.keep))
    results = load_results(options.show) if options.show else run(options)
    print(report.tables(results))
    if options.write:
        report.write(PAGE, report.tables(results))
        PICTURE.write_text(chart.draw(results))
        print(f"\nwritten to {PAGE.relative_to(programs.ROOT)} and {PICTURE.name}")


def parse(arguments: list[str]) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rows", default="", help="numbers from 1, e.g. 1,3; all without")
    parser.add_argument("--runs", type=int, default=5, help="rounds")
    parser.add_argument("--seconds", type=float, default=2.0, help="of load in a trial")
    parser.add_argument("--only", default="", help=f"of {','.join(WORDS)}; all that can be without")
    parser.add_argument("--old", type=Path, help="another checkout of this project, to compare")
    parser.add_argument("--profile", type=Path, help="a cProfile of our relay, in that file")
    parser.add_argument("--show", type=Path, help="a run's JSON, instead of a run")
    parser.add_argument("--write", action="store_true", help="into docs/performance.md as well")
    parser.add_argument("--quick", action="store_true", help="for CI: compare with expected.json")
    parser.add_argument("--keep", action="store_true", help="with --quick: write expected.json")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> Results:
    """All rounds; what was found so far is on disk after each trial."""
    rows = [ROWS[int(n) - 1] for n in options.rows.split(",")] if options.rows else list(ROWS)
    chosen = chosen_programs(options)
    kept = programs.CACHE / time.strftime("%Y-%m-%d-%H%M%S.json")
    results = Results(about=about())
    prepared = [(row, row.requests(0)) for row in rows]
    for number in range(options.runs):
        results.null_us.append(null_server_us(options.seconds))
        print(f"round {number + 1}: null server {results.null_us[-1]:.1f} µs", file=sys.stderr)
        for row, requests in prepared:
            limit = loads_own_limit(row, requests, options.seconds / 2)
            results.limits.setdefault(row.name, []).append(limit)
            for program in chosen:
                try_out(results, program, row, requests, number, options.seconds)
                results.save(kept)
    print(f"kept in {kept}\n", file=sys.stderr)
    return results


def try_out(
    results: Results,
    program: programs.Program,
    row: Row,
    requests: list[bytes],
    number: int,
    seconds: float,
) -> None:
    """One trial; one that a program does not take is noted, and not tried again."""
    is_other = program.name in (COLLECTOR, ROTEL)
    if (row.is_only_ours and is_other) or program.name in results.refused.get(row.name, {}):
        return
    try:
        found = measure(program, row, requests, seconds)
    except (programs.RefusedError, OSError) as error:
        if not is_other:
            raise
        results.refused.setdefault(row.name, {})[program.name] = str(error)
        return
    results.add(row.name, program.name, number, found)
    print(
        f"  {row.name:36}{program.name:20}{found.cpu_us:9.2f} µs{found.items_a_second:12,.0f}/s"
        f"{found.p50_ms:8.1f}{found.p99_ms:8.1f} ms{found.resident_mib:6.0f} MiB",
        file=sys.stderr,
        flush=True,
    )


def chosen_programs(options: argparse.Namespace) -> list[programs.Program]:
    """Those that are asked for and can be had here."""
    words = options.only.split(",") if options.only else list(WORDS)
    names = {WORDS[word] for word in words}
    found: list[programs.Program | None] = []
    if OURS in names and programs.Relay(OURS).is_native:
        found.append(programs.Relay(OURS, profile=options.profile))
    if PURE in names:
        pure = {"RELAY_PURE": "1"}
        found.append(programs.Relay(PURE, environ=pure, profile=options.profile))
    if options.old:
        found.append(programs.Relay(OLD, options.old.resolve()))
    if COLLECTOR in names:
        found.append(programs.collector())
    if ROTEL in names:
        found.append(programs.rotel())
    return [each for each in found if each is not None]


def about() -> dict[str, str]:
    """What figures depend on."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short=10", "HEAD"],
        cwd=programs.ROOT, capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    return {
        "commit": commit or version("otlp-relay"),
        "Python": platform.python_version(),
        "Collector": "0.165.0",
        "rotel": programs.ROTEL.rpartition("=")[2],
        "of": time.strftime("%Y-%m-%d"),
        "cores": str(os.cpu_count()),
    }


if __name__ == "__main__":
    main()
