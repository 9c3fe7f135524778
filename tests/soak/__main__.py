"""Trials in rounds until the time is over; the table of what was lost at the end.

`python -m tests.soak [--seconds 1800] [--seed N] [--only NAME]…`. Exit code 1 when anything was
lost, came twice without reason, or else went wrong. Every trial is a function of its seed, which
is printed: `--seed` with `--only` does it again.
"""

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import NamedTuple

import structlog

from tests.trials import damage, every_fault, faults, model, relays, sampling, space
from tests.trials.rows import Row, by_signal, table


class Soak(NamedTuple):
    """A trial as it is done here: so long that a round of all takes some five minutes."""

    name: str
    run: Callable[[int], Row]


TRIALS = (
    Soak("kills", lambda seed: relays.kills(seed=seed, times=40)),
    Soak("restarts", lambda seed: relays.restarts(seed=seed, times=15)),
    Soak("bad-disk", lambda seed: relays.bad_disk(seed=seed, times=30)),
    Soak("every-fault", lambda seed: every_fault.trial(seed=seed, stride=1)),
    Soak("matrix", lambda seed: faults.matrix(seed=seed, requests=30)),
    Soak("mixed", lambda seed: faults.mixed(seed=seed, waves=60)),
    *(
        Soak(f"upstream-{status}", lambda seed, s=status: faults.away(s, seed=seed, seconds=5))  # type: ignore[misc]
        for status in (401, 404, 500)
    ),
    Soak("slow", lambda seed: faults.slow(seed=seed, seconds=5)),
    Soak("clock-jumps", lambda seed: relays.clock_jumps(seed=seed, times=10)),
    Soak("sampling", lambda seed: sampling.trial(seed=seed)),
    Soak("full-disk", lambda seed: space.full_disk(seed=seed)),
    Soak("full-disk-alone", lambda seed: space.full_disk(seed=seed, is_alone=True)),
    Soak("read-only-disk", lambda seed: space.read_only(seed=seed, times=3)),
    Soak("damaged-row", lambda seed: damage.trial(seed=seed, is_anywhere=False)),
    *(Soak("damage", lambda seed, n=n: damage.trial(seed=seed * 10 + n)) for n in range(5)),  # type: ignore[misc]
    Soak("model", lambda seed: model.trial(seed=seed, examples=150)),
)
NEED_A_DISK = {"full-disk", "full-disk-alone", "read-only-disk"}


def run(trial: Soak, seed: int) -> Row:
    """One trial; an exception in it is a problem like any other."""
    try:
        return trial.run(seed)
    except Exception as error:  # noqa: BLE001 - the others go on
        traceback.print_exc()
        return Row(trial.name, problems=(f"seed {seed}: {type(error).__name__}: {error}",))


def soak(seconds: float, first_seed: int, names: list[str]) -> list[Row]:
    """Rounds of all trials (or of `names`) until the time is over; at least one trial."""
    chosen = [trial for trial in TRIALS if not names or trial.name in names]
    reason = space.why_not() if any(trial.name in NEED_A_DISK for trial in chosen) else ""
    if reason:
        print(f"left out, no small ext4 can be mounted here: {', '.join(sorted(NEED_A_DISK))}")
        print(f"  {reason}")
        chosen = [trial for trial in chosen if trial.name not in NEED_A_DISK]
    sums: dict[str, Row] = {}
    deadline = time.monotonic() + seconds
    seed = first_seed
    while True:
        for trial in chosen:
            began = time.monotonic()
            row = run(trial, seed)
            took = time.monotonic() - began
            verdict = "good" if row.is_good else "BAD"
            print(f"{trial.name} (seed {seed}): {verdict}, {took:.0f} s", flush=True)
            for problem in row.problems[:20]:
                print(f"  ! {problem}")
            sums[row.trial] = sums[row.trial] + row if row.trial in sums else row
            if time.monotonic() > deadline:
                return list(sums.values())
        seed += 1


def main() -> int:
    """The command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument(
        "--only", action="append", default=[], choices=sorted({each.name for each in TRIALS})
    )
    options = parser.parse_args()
    # As Ctrl-C does: the trial under way ends its relay.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    print(f"soak for {options.seconds:g} s, first seed {options.seed}", flush=True)
    rows = soak(options.seconds, options.seed, options.only)
    print(f"\n{table(rows)}\n\n{table(by_signal(rows))}")
    is_good = all(row.is_good for row in rows)
    print("\nnothing lost" if is_good else "\nNOT GOOD: see above")
    return 0 if is_good else 1


if __name__ == "__main__":
    raise SystemExit(main())
