"""Guards CI: our CPU a request beside the null server's of the same round, stage by stage.

A stage is told from outside, by what a relay does with and without it:

- `HTTP`: a request without content
- `prepare`: what the event loop does more for a body (decode, check, enrich, encode, hand over)
- `writer`: what the other threads do without a destination (build rows, commit, keep house)
- `way out`: what one destination costs on top

What seems to have lost is measured once more, and has lost only if it shows again: on a machine
with other work a median of few rounds may be anything. Every figure is divided by the null server's
of the same minute.

Memory is guarded beside it: what the process holds at most under the largest requests.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench import load
from tests.bench.programs import Plan, Relay
from tests.bench.results import OURS
from tests.bench.rows import MOST_MIB, ROWS, Row
from tests.bench.trial import Measured, measure, measure_with, null_server_us

EXPECTED = Path(__file__).parent / "expected.json"
NAMES = ("1 genai JSON", "100 JSON", "100 protobuf")
LARGEST = "512 JSON"  # for its memory alone
MOST_LOSS = 1.5
TOLD_LOSS = 1.25
SECONDS = 1.0
Stages = dict[str, float]  # as multiples of the yardstick


def run(runs: int, *, is_to_be_kept: bool) -> int:
    """The exit code: 1 after a loss."""
    relay = Relay(OURS)
    is_native = relay.is_native and os.environ.get("RELAY_PURE", "0") in ("", "0")
    mode = "native" if is_native else "pure"
    rows = [(row, row.requests(0)) for row in ROWS if row.name in NAMES]
    found = medians(relay, rows, runs)
    known = expected()
    if is_to_be_kept:
        rounded = {
            name: {stage: round(value, 3) for stage, value in stages.items()}
            for name, stages in found.items()
        }
        EXPECTED.write_text(json.dumps({**known, mode: rounded}, indent=2) + "\n")
        return 0
    if mode not in known:
        print(f"{EXPECTED.name} has no figures of the {mode} relay: add --keep, and commit it")
        return 1
    print(table(found, known[mode]))
    losses = judge(found, known[mode])
    if losses:
        print("\n".join(losses), "once more:", sep="\n")
        lost = [each for each in rows if judge({each[0].name: found[each[0].name]}, known[mode])]
        found = medians(relay, lost, runs)
        print(table(found, known[mode]))
        losses = judge(found, known[mode])
    peak = peak_mib(relay)
    print(f"{LARGEST}: at most {peak:.0f} MiB")
    losses += judge_memory(peak)
    print("\n".join(losses or judge(found, known[mode], TOLD_LOSS)))
    print(f"{len(losses)} losses of the {mode} relay, of {MOST_LOSS - 1:.0%} or of memory")
    return 1 if losses else 0


def expected() -> dict[str, dict[str, Stages]]:
    """What is kept in the repository: of the relay with its native part and without, by row."""
    found: dict[str, dict[str, Stages]] = json.loads(EXPECTED.read_text())
    return found


def medians(relay: Relay, rows: list[tuple[Row, list[bytes]]], runs: int) -> dict[str, Stages]:
    """Of so many rounds."""
    rounds = [one_round(relay, rows) for _ in range(runs)]
    return {
        name: {stage: median(each[name][stage] for each in rounds) for stage in rounds[0][name]}
        for name in rounds[0]
    }


def one_round(relay: Relay, rows: list[tuple[Row, list[bytes]]]) -> dict[str, Stages]:
    """Every row once, with the yardstick before and after it."""
    empty = [load.request_bytes(0, b'{"resourceSpans":[]}')]
    before = null_server_us(SECONDS / 2)
    http_us = alone(relay, ROWS[0], empty).cpu_us
    found = {}
    for row, requests in rows:
        kept = alone(relay, row, requests)
        whole = measure(relay, row, requests, SECONDS)
        after = null_server_us(SECONDS / 2)
        yardstick_us, before = (before + after) / 2, after
        parts = stages(http_us, kept, whole, row.items)
        found[row.name] = {name: value / yardstick_us for name, value in parts.items()}
        print(f"  {row.name}: {found[row.name]['whole']:.2f} times null server", file=sys.stderr)
    return found


def alone(relay: Relay, row: Row, requests: list[bytes]) -> Measured:
    """Without a destination."""
    with tempfile.TemporaryDirectory() as folder:
        return measure_with(relay, Path(folder), Plan(row, ()), requests, SECONDS)


def stages(http_us: float, kept: Measured, whole: Measured, items: int) -> Stages:
    """Microseconds a request."""
    return {
        "whole": whole.cpu_us * items,
        "HTTP": http_us,
        "prepare": kept.loop_us * items - http_us,
        "writer": (kept.cpu_us - kept.loop_us) * items,
        "way out": (whole.cpu_us - kept.cpu_us) * items,
    }


def judge(found: dict[str, Stages], known: dict[str, Stages], most: float = MOST_LOSS) -> list[str]:
    """A sentence for each row that costs more than so many times as much, with the stage that grew
    most.
    """
    return [
        f"{name}: {now['whole']:.2f} times the null server, which is "
        f"{now['whole'] / before['whole']:.0%} of the {before['whole']:.2f} in {EXPECTED.name}; "
        f"look at the stage “{_grown(now, before)}”"
        for name, now in found.items()
        if (before := known[name])["whole"] * most < now["whole"]
    ]


def peak_mib(relay: Relay) -> float:
    """What the daemon holds at most under the largest requests."""
    row = next(each for each in ROWS if each.name == LARGEST)
    return measure(relay, row, row.requests(0), 4 * SECONDS).resident_mib


def judge_memory(mib: float) -> list[str]:
    """A sentence where that is too much."""
    if mib <= MOST_MIB:
        return []
    return [f"{LARGEST}: the daemon held {mib:.0f} MiB, allowed are {MOST_MIB:.0f}"]


def _grown(now: Stages, before: Stages) -> str:
    return max((name for name in now if name != "whole"), key=lambda name: now[name] - before[name])


def table(found: dict[str, Stages], known: dict[str, Stages]) -> str:
    """Stage by stage, with what is expected in brackets."""
    names: list[Any] = list(next(iter(found.values())))
    lines = [f"{'x null server':16}" + "".join(f"{name:>16}" for name in names)]
    for row, now in found.items():
        cells = [f"{now[name]:.2f} ({known[row][name]:.2f})" for name in names]
        lines.append(f"{row:16}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)
