"""`python -m tests.mutants`: a sample of changes, what became of each, and the share detected."""

import argparse
import difflib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Final, NamedTuple

from tests.mutants import marker
from tests.mutants.change import Change, changes
from tests.mutants.rooms import CORE, FLEET, files_for, modules

ROOT: Final = Path(__file__).parents[2]
EQUIVALENTS: Final = Path(__file__).with_name("equivalents.toml")
# The slowest room takes a minute of a quiet processor, that of the brokers half an hour. What takes
# this long says nothing: it is not counted as detected.
SECONDS: Final = 3600
NOT_HERE: Final = "not alone and not proofs and not e2e and not systemd"
GOAL: Final = 0.9


class Undecided(Exception):
    """Tests took too long together, or cannot be left out though they prove nothing."""


class Mutant(NamedTuple):
    """A change to a module, and the diff that it makes."""

    module: Path
    change: Change
    diff: str

    @property
    def lines(self) -> tuple[str, str]:
        """What stood there, and what stands there now; lines without their indent."""
        shown = self.diff.splitlines()[2:]
        taken, put = (
            "\n".join(line[1:].strip() for line in shown if line.startswith(mark)) for mark in "-+"
        )
        return taken, put


def mutants_of(module: Path) -> list[Mutant]:
    """All of a module."""
    source = (ROOT / module).read_bytes()
    before = source.decode().splitlines()
    found = []
    for change in changes(source):
        after = change.apply(source).decode().splitlines()
        diff = difflib.unified_diff(before, after, str(module), str(module), lineterm="", n=0)
        found.append(Mutant(module, change, "\n".join(diff)))
    return found


def known_equivalents() -> set[tuple[str, str, str]]:
    """Module, and the lines before and after, of what no test can tell apart."""
    listed = tomllib.loads(EQUIVALENTS.read_text("utf-8")).get("equivalent", [])
    return {(each["module"], each["before"], each["after"]) for each in listed}


def copy_of_project(parent: Path, number: int) -> Path:
    """What git knows, as it stands here, in a directory of its own."""
    place = parent / f"copy-{number}"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for name in listed.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, place / name)
            shutil.copymode(ROOT / name, place / name)
    return place


def failure(place: Path, tests: list[str], without: Iterable[str] = ()) -> str:
    """The first test that fails or hangs in that copy; empty where all pass.

    Raises Undecided after `SECONDS`, which says nothing of the tests.
    """
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-x", "-n0", "-m", NOT_HERE]
    command += ["-p", "no:cacheprovider", "--timeout=90", "--hypothesis-seed=1"]
    command += ["-p", marker.__name__, f"--basetemp={place}.tests", *tests]
    command += [f"--deselect={test}" for test in without]
    running = place.with_suffix(".running")
    running.write_text(tests[0], "utf-8")  # unless it comes to a test
    environ = {**os.environ, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    environ["RELAY_PURE"] = "1"  # else what is changed would not run
    environ[marker.VARIABLE] = str(running)
    with (
        place.with_suffix(".log").open("wb") as output,
        subprocess.Popen(
            command, cwd=place, env=environ, stdout=output, stderr=output, start_new_session=True
        ) as run,
    ):
        try:
            has_passed = run.wait(SECONDS) == 0
        except subprocess.TimeoutExpired:
            raise Undecided from None
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
    return "" if has_passed else running.read_text("utf-8")


class Trials:
    """Tries mutants, and believes a test only that fails with the change and passes without it.

    On a busy machine a test may fail by its deadline whatever was changed. So one that fails is
    run once more alone, with the change and without; one that is wrong there is left out.
    """

    def __init__(self) -> None:
        self._passing: set[str] = set()  # seen to pass without any change
        self._failing: set[str] = set()  # seen to fail without any

    def noticed_by(self, mutant: Mutant, place: Path) -> str:
        """The test of its room that fails with it; empty where none does."""
        module = place / mutant.module
        source = module.read_bytes()
        files = files_for(mutant.module, place)
        left_out = set[str]()
        while True:
            module.write_bytes(mutant.change.apply(source))
            try:
                test = failure(place, files, self._failing | left_out)
                fails_again = bool(test) and bool(failure(place, [test]))
            finally:
                module.write_bytes(source)
            if not test or (fails_again and self._passes_without(test, place)):
                return test
            if test in left_out:
                raise Undecided
            left_out.add(test)
            files = files[files.index(test.split("::")[0]) :]  # those before it have passed
            print(f"left out    {test}", flush=True)

    def _passes_without(self, test: str, place: Path) -> bool:
        if test not in self._passing | self._failing:
            (self._failing if failure(place, [test]) else self._passing).add(test)
        return test in self._passing


def main() -> int:
    """Run a sample; 0 when enough of it was detected."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="how many (100)")
    parser.add_argument("--seed", type=int, default=None, help="the same sample again")
    parser.add_argument("--workers", type=int, default=(os.cpu_count() or 1) + 1, help="at once")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--room", choices=sorted(CORE), default=None, help="of this room only")
    only.add_argument(
        "--fleet",
        action="store_true",
        help="of what keeps its records on brokers instead: needs what `make test-fleet` needs, and"
        " hours",
    )
    given = parser.parse_args()
    rooms = {given.room: CORE[given.room]} if given.room else FLEET if given.fleet else CORE
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    every = [mutant for module in modules(ROOT, rooms) for mutant in mutants_of(module)]
    equivalent = known_equivalents()
    keys = {mutant: (str(mutant.module), *mutant.lines) for mutant in every}
    for stale in sorted(equivalent - set(keys.values())) if rooms is CORE else ():
        print(f"equivalents.toml names what cannot be made any more: {stale}")
    every = [mutant for mutant in every if keys[mutant] not in equivalent]
    sample = random.Random(seed).sample(every, min(given.count, len(every)))
    print(f"{len(sample)} of {len(every)} mutants, --seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies = SimpleQueue[Path]()
        for number in range(given.workers):
            copies.put(copy_of_project(Path(folder), number))
        return _report(_run(sample, copies, given.workers), len(sample))


def _run(sample: list[Mutant], copies: "SimpleQueue[Path]", workers: int) -> list[Mutant]:
    """Those that survive, and those that could not be decided."""
    trials = Trials()

    def is_alive(mutant: Mutant) -> bool:
        place = copies.get()
        began = time.monotonic()
        try:
            test = trials.noticed_by(mutant, place)
            word = "detected" if test else "SURVIVED"
        except Undecided:
            test, word = "", "UNDECIDED"
        finally:
            copies.put(place)
        seconds = time.monotonic() - began
        where = f"{mutant.module}:{mutant.diff.splitlines()[2].split(' ')[1][1:]}"
        print(f"{word}  {seconds:5.1f} s  {where}  {test}", flush=True)
        if not test:
            print(mutant.diff, flush=True)
        return not test

    with ThreadPoolExecutor(workers) as pool:
        alive = list(pool.map(is_alive, sample))
    return [mutant for mutant, is_so in zip(sample, alive, strict=True) if is_so]


def _report(survivors: list[Mutant], count: int) -> int:
    share = 1 - len(survivors) / max(count, 1)
    print(f"\n{count - len(survivors)} of {count} detected ({share:.0%}); survivors:")
    for mutant in survivors:
        print(f"\n{mutant.diff}")
    return 0 if share >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
