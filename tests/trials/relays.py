"""Trials with the real process and two destinations: killed, stopped, on bad disks, upstream away.

`Trial` is the frame: a relay, collectors with a `Recorder` each, a load, and the row at the end.
"""

import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from mockcollector.server import MockCollector
from tests.support.load import MIXED, SIGNALS, Kind, Load
from tests.support.ports import free_port
from tests.support.relay_process import Relay, eventually
from tests.trials.fates import IN_FLIGHT_SECONDS, Recorder, dead_by_destination, letters_in
from tests.trials.rows import Fate, Row, judge

ROOT = Path(__file__).parents[2]
NAMES = ("left", "right")

# The relay on a bad disk. Its arguments come by the environment, since each life has its own.
ON_FAULTY_DISK = """
import os
from relay import engine
from relay.buffer.sqlite import schema
from relay.cli import main
from tests.support.faulty_vfs import NAME, Fault, FaultyVFS, lose_power

faults = []
if os.environ.get("TRIAL_FAULT"):
    kind, n, times, error, forgets = os.environ["TRIAL_FAULT"].split()
    faults.append(Fault(kind, int(n), int(times), error, forgets == "forgets"))
disk = FaultyVFS(
    seed=int(os.environ["TRIAL_SEED"]), survival=float(os.environ["TRIAL_SURVIVAL"]), faults=faults
)
Buffer = engine.Buffer


def on_bad_disk(state_dir, *arguments):
    lose_power(state_dir)  # the life before ended with one
    return Buffer(state_dir, *arguments, vfs=NAME)


engine.Buffer = on_bad_disk
if os.environ.get("TRIAL_SYNC") == "off":
    schema.SYNCHRONOUS["full"] = 0
main()
"""

# The relay with a wall clock that jumps by hours, forth and back, several times a second.
ON_JUMPING_CLOCK = """
import os, random, time

rng = random.Random(int(os.environ["TRIAL_SEED"]))
real_ns, real_monotonic = time.time_ns, time.monotonic
jump_ns, next_jump = 0, 0.0


def jumping_ns():
    global jump_ns, next_jump
    if real_monotonic() >= next_jump:
        jump_ns = rng.randrange(-6, 7) * 3600 * 10**9
        next_jump = real_monotonic() + rng.random() * 0.3
    return real_ns() + jump_ns


time.time_ns = jumping_ns
time.time = lambda: jumping_ns() / 1e9
from relay.cli import main
main()
"""


class Trial:
    """One relay with two destinations under load."""

    def __init__(
        self,
        name: str,
        seed: int,
        *,
        names: tuple[str, ...] = NAMES,
        settings: str = "",
        keys: Mapping[str, Any] | None = None,
        state_dir: Path | None = None,
        script: str = "",
    ) -> None:
        """`script` is Python that runs the relay with something changed; see above."""
        self.name = name
        self.seed = seed
        self.random = random.Random(seed)
        self.names = names
        self.problems: list[str] = []
        self.crashes: list[tuple[float, float]] = []
        self.environ: dict[str, str] = {}
        self.letters: dict[str, dict[str, str]] = {}
        self._settings = settings
        self._keys = dict(keys or {})
        self._state_dir = state_dir
        self._script = script
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _start(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="trial-"))
        self._stack.callback(shutil.rmtree, folder)
        self.recorders = {name: Recorder() for name in self.names}
        self.collectors = {
            name: self._stack.enter_context(
                MockCollector(port=free_port(), keep="counts", on_request=self.recorders[name])
            )
            for name in self.names
        }
        command: tuple[str, ...] = ("-m", "relay.cli")
        if self._script:
            script = folder / "serve.py"
            script.write_text(self._script)
            command = (str(script),)
            self.environ |= {
                "PYTHONPATH": str(ROOT),
                "TRIAL_SEED": str(self.seed),
                "TRIAL_SURVIVAL": "0.5",
            }
        self.relay = Relay(
            folder,
            {
                name: {"endpoint": collector.endpoint, "signals": SIGNALS, **self._keys}
                for name, collector in self.collectors.items()
            },
            settings=self._settings,
            command=command,
            environ=self.environ,
        )
        self.relay.environ = self.environ  # each life its own
        if self._state_dir is not None:
            self._state_dir.mkdir(mode=0o700)
            (folder / "state").symlink_to(self._state_dir)
        self._stack.enter_context(self.relay)

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type]

    @contextmanager
    def load(
        self, *, items: int = 5, kinds: Sequence[Kind] = MIXED, per_second: float = 0.0
    ) -> Iterator[Load]:
        """Senders at work on every signal; what they were promised is judged by `row`."""
        port = self.relay.ingest_port
        with Load(port, items=items, kinds=kinds, per_second=per_second) as load:
            yield load

    def kill(self) -> None:
        """Kill -9; the moment counts as a crash."""
        self.relay.kill()
        self.note_crash(since=time.time())

    def note_crash(self, *, since: float) -> None:
        """What was in flight `since` then (wall clock), or a moment before, may come again."""
        self.crashes.append((since - IN_FLIGHT_SECONDS, time.time()))

    def nudge(self) -> None:
        """Let every destination try at once, instead of when its pause is over."""
        self.relay.signal(signal.SIGHUP)

    def wait_until_delivered(self, acknowledged: set[str], *, seconds: float = 60.0) -> None:
        """Until each id has arrived everywhere, or nothing waits any more; says so if neither."""

        def is_done() -> bool:
            if all(recorder.holds(acknowledged) for recorder in self.recorders.values()):
                return True
            return not any(map(self.relay.owed, self.names))

        try:
            eventually(is_done, seconds=seconds, what="an end of delivery")
        except AssertionError as error:
            reasons = ", ".join(
                f"{each['name']} {each['signal']} {each['state']}: {each['reason']}"
                for name in self.names
                for each in self.relay.queues(name)
            )
            self.problems.append(f"{error}; {reasons}")

    def row(self, acknowledged: set[str]) -> Row:
        """Stop the relay and judge."""
        code = self.relay.stop()
        if code:
            self.problems.append(f"the relay ended with {code}")
        self.letters = dead_by_destination(letters_in(self.relay.state_dir))
        fates: dict[str, Fate] = {}
        for name, recorder in self.recorders.items():
            fates[name], doubles = recorder.fate(self.crashes)
            fates[name].dead = self.letters.get(name, {})
            self.problems += doubles[:3]
        self.problems += [f"set aside: {p.name}" for p in self.relay.state_dir.glob("relay.db.*")]
        row = judge(self.name, acknowledged, fates, self.problems)
        if not row.is_good:
            print(f"--- {self.name}, seed {self.seed}: log of the relay ---")
            print(self.relay.log()[-4000:])
        return row


def only(load: Load, allowed: set[int]) -> list[str]:
    """A sentence for each answer that is not one of `allowed`."""
    return [
        f"{count} requests were answered {status}"
        for status, count in load.statuses.items()
        if status not in allowed
    ]


def kills(*, seed: int, times: int, seconds: float = 3600.0) -> Row:
    """Kill -9 at random moments under load."""
    deadline = time.monotonic() + seconds
    with Trial("kill -9", seed) as trial:
        with trial.load() as load:
            for _ in range(times):
                load.wait_for_more(trial.random.randrange(5, 200))
                trial.kill()
                trial.relay.start()
                if time.monotonic() > deadline:
                    break
            load.wait_for_more(20)
        trial.wait_until_delivered(load.acknowledged)
        trial.problems += only(load, {200})
        return trial.row(load.acknowledged)


def restarts(*, seed: int, times: int) -> Row:
    """SIGTERM at random moments under load: nothing is lost, and nothing comes twice either."""
    with Trial("SIGTERM and start", seed) as trial:
        with trial.load() as load:
            for _ in range(times):
                load.wait_for_more(trial.random.randrange(5, 200))
                code = trial.relay.stop()
                if code:
                    trial.problems.append(f"SIGTERM ended with {code}")
                trial.relay.start()
            load.wait_for_more(20)
        trial.wait_until_delivered(load.acknowledged)
        trial.problems += only(load, {200, 503})
        return trial.row(load.acknowledged)


def bad_disk(*, seed: int, times: int, is_sync_off: bool = False, has_faults: bool = True) -> Row:
    """Kill -9 on a disk that forgets, tears and reorders, and fails now and then."""
    name = "kill -9, bad disk" + (", sync off" if is_sync_off else "")
    with Trial(name, seed, script=ON_FAULTY_DISK) as trial:
        if is_sync_off:
            # Delivered is not lost: let it all wait for the disk to forget it.
            trial.environ["TRIAL_SYNC"] = "off"
            trial.environ["TRIAL_SURVIVAL"] = "0"
            for collector in trial.collectors.values():
                collector.stop()
            trial.kill()
            trial.relay.start()
        with trial.load(items=2) as load:
            for life in range(times):
                load.wait_for_more(trial.random.randrange(20, 120))
                trial.kill()
                trial.environ["TRIAL_SEED"] = str(seed * 1000 + life)
                trial.environ["TRIAL_FAULT"] = _random_fault(trial.random) if has_faults else ""
                trial.relay.start()
            load.wait_for_more(20)
        if is_sync_off:
            for collector in trial.collectors.values():
                collector.start()
            trial.nudge()
        trial.wait_until_delivered(load.acknowledged)
        trial.problems += only(load, {200, 503})
        return trial.row(load.acknowledged)


def _random_fault(rng: random.Random) -> str:
    """Behind what a start needs, so that it fails under load."""
    if rng.random() < 0.5:
        error = rng.choice(["ioerr", "full"])
        return f"write {rng.randrange(60, 300)} {rng.choice([1, 4])} {error} keeps"
    memory = rng.choice(["forgets", "keeps"])
    return f"sync {rng.randrange(15, 60)} {rng.choice([1, 2])} ioerr {memory}"


def clock_jumps(*, seed: int, times: int) -> Row:
    """The wall clock jumps by hours, forth and back, under load and over kill -9."""
    settings = '[buffer]\nkeep_delivered = "1h"'
    with Trial("clock jumps", seed, settings=settings, script=ON_JUMPING_CLOCK) as trial:
        with trial.load() as load:
            for life in range(times):
                load.wait_for_more(trial.random.randrange(200, 600))
                trial.kill()
                trial.environ["TRIAL_SEED"] = str(seed * 1000 + life)
                trial.relay.start()
            load.wait_for_more(200)
        trial.wait_until_delivered(load.acknowledged)
        trial.problems += only(load, {200})
        return trial.row(load.acknowledged)
