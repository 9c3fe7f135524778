"""What a connection test found, step by step: the values that travel. No I/O."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from relay.model.records import Signal
from relay.upstream.explain import Fault

StepName = Literal["name", "tcp", "tls", "http", "auth", "encoding", "request", "read_back"]
StepState = Literal["ok", "failed", "skipped", "warning"]
EncodingName = Literal["json", "protobuf"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the test: what it took and what was seen, secrets masked."""

    name: StepName
    state: StepState
    seconds: float
    found: str


@dataclass(frozen=True, slots=True)
class Report:
    """The whole test. The steps end with the first that failed.

    `wrong` and `remedy` are a sentence each, empty when it passed. `encoding` is the one that
    passed, None if the test did not come that far: where `auto` was asked for, `protobuf` means
    that JSON was refused and protobuf has to be set; `json` needs no setting.
    """

    steps: tuple[Step, ...]
    passed: bool
    wrong: str = ""
    remedy: str = ""
    encoding: EncodingName | None = None


def as_document(reports: Mapping[Signal, Report]) -> dict[str, Any]:
    """The tests of one destination as `--json` and the admin API show them.

    The report of its only signal; of several the first that failed, else the first, and each by
    the name of its signal under `signals`.
    """
    chosen = next((each for each in reports.values() if not each.passed), None)
    document = asdict(chosen or next(iter(reports.values())))
    if len(reports) > 1:
        document["signals"] = {signal.word: asdict(each) for signal, each in reports.items()}
    return document


class StepFailed(Exception):
    """The test ends at this step, with what is wrong and what to do, a sentence each."""

    def __init__(self, step: StepName, wrong: str, remedy: str, found: str = "") -> None:
        super().__init__(wrong)
        self.step = step
        self.wrong = wrong
        self.remedy = remedy
        self.found = found or wrong

    @classmethod
    def of(cls, fault: Fault) -> "StepFailed":
        """By what delivery would say of the same fault."""
        return cls(fault.step, fault.cause, fault.remedy)


class Recorder:
    """Takes the steps down as they happen and tells each to `on_step`, if there is one.

    A step takes from the end of the one before it to when it is told.
    """

    def __init__(self, on_step: Callable[[Step], None] | None) -> None:
        self.steps: list[Step] = []
        self._on_step = on_step
        self._since = time.perf_counter()

    def ok(self, name: StepName, found: str) -> None:
        """The step is in order."""
        self.add(name, "ok", found)

    def add(self, name: StepName, state: StepState, found: str) -> None:
        """The step has come to `state`."""
        now = time.perf_counter()
        step = Step(name, state, now - self._since, found)
        self._since = now
        self.steps.append(step)
        if self._on_step is not None:
            self._on_step(step)
