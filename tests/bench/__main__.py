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
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from tests.bench import chart, fleet, programs, quick, report
from tests.bench.processes import LOAD_CORE
from tests.bench.results import (
    COLLECTOR,
    FLEET,
    OLD,
    OLD_FLEET,
    OURS,
    PURE,
    ROTEL,
    TWO,
    Results,
    load_results,
)
from tests.bench.rows import ROWS, Row
from tests.bench.trial import loads_own_limit, measure, null_server_us
from tests.support.kafka import Brokers

PAGE = programs.ROOT / "docs" / "performance.md"
PICTURE = PAGE.with_suffix(".svg")
WORDS = {
    "relay": OURS,
    "pure": PURE,
    "old": OLD,
    "collector": COLLECTOR,
    "rotel": ROTEL,
    "fleet": FLEET,
    "two": TWO,
}


def main() -> None:
    """Measure what is asked for, or show or check what was."""
    options = parse(sys.argv[1:])
    os.sched_setaffinity(0, {LOAD_CORE})
    if options.quick:
        sys.exit(quick.run(options.runs, is_to_be_kept=options.keep))
    results = shown(options.show) if options.show else run(options)
    print(report.everything(results))
    if options.write:
        written = report.write_all(PAGE, results)
        if report.BEGIN in written:
            PICTURE.write_text(chart.draw(results))
        print(f"\nwritten to {PAGE.relative_to(programs.ROOT)}")


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


def shown(path: Path) -> Results:
    """A run that was kept; ends in words where it cannot be shown."""
    try:
        return load_results(path)
    except (OSError, ValueError) as error:
        sys.exit(str(error))


def run(options: argparse.Namespace) -> Results:
    """All rounds: of the fleet's rows after the others, with brokers that only they have."""
    rows = [ROWS[int(n) - 1] for n in options.rows.split(",")] if options.rows else list(ROWS)
    kept = programs.CACHE / time.strftime("%Y-%m-%d-%H%M%S.json")
    results = Results(about=about())
    own = [row for row in rows if not row.is_fleet]
    if own:
        run_rows(results, own, chosen_programs(options), options, kept)
    of_fleet = [row for row in rows if row.is_fleet]
    if of_fleet:
        with fleet.brokers() as brokers:
            if brokers is not None:
                warm(fleet.FleetRelays(FLEET, programs.Relay(OURS), brokers), of_fleet[0])
                run_rows(results, of_fleet, fleet_programs(options, brokers), options, kept)
    print(f"kept in {kept}\n", file=sys.stderr)
    return results


def warm(program: programs.Program, row: Row) -> None:
    """What brokers do once takes so long that they may refuse the first requests meanwhile."""
    with suppress(programs.RefusedError):
        measure(program, row, row.requests(0), 1.0)


def run_rows(
    results: Results,
    rows: list[Row],
    chosen: list[programs.Program],
    options: argparse.Namespace,
    kept: Path,
) -> None:
    """All rounds of some rows, with the same programs for each. What was found so far is in `kept`
    after each trial.
    """
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
        f"{found.p50_ms:8.1f}{found.p99_ms:8.1f} ms{found.resident_mib:6.0f} MiB"
        + (f"{found.brokers_us:9.2f} µs of brokers" if found.brokers_us else ""),
        file=sys.stderr,
        flush=True,
    )


def chosen_programs(options: argparse.Namespace) -> list[programs.Program]:
    """Those that are asked for and can be had here."""
    names = wanted(options)
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


def fleet_programs(options: argparse.Namespace, brokers: Brokers) -> list[programs.Program]:
    """One host, and relays of a fleet on those brokers."""
    names = wanted(options)
    relay = programs.Relay(OURS, profile=options.profile)
    found: list[programs.Program] = []
    if OURS in names:
        found.append(relay)
    if FLEET in names:
        found.append(fleet.FleetRelays(FLEET, relay, brokers))
    if options.old:
        old = programs.Relay(OLD, options.old.resolve())
        found.append(fleet.FleetRelays(OLD_FLEET, old, brokers))
    if TWO in names:
        found.append(fleet.FleetRelays(TWO, programs.Relay(OURS), brokers, 2))
    return found


def wanted(options: argparse.Namespace) -> set[str]:
    """Names of the programs that are asked for."""
    words = options.only.split(",") if options.only else list(WORDS)
    return {WORDS[word] for word in words}


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
