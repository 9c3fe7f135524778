"""A command in, run with the collector as its OTLP endpoint; whether all came that was expected."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence

from mockcollector.journal import Journal
from mockcollector.server import MockCollector
from mockcollector.signals import TRAITS, Signal


def run_command(collector: MockCollector, command: Sequence[str]) -> int:
    """Run it to its end with `MockCollector.env` set; its exit code, negative for a signal.

    SIGTERM goes on to it; Ctrl-C reaches it by itself, and it is waited for. Raises OSError when it
    cannot be started.
    """
    process = subprocess.Popen(command, env=os.environ | collector.env())  # noqa: S603 - the user's
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue
    finally:
        signal.signal(signal.SIGTERM, before)


def unmet(journal: Journal, expected: Mapping[Signal, int | None]) -> Iterator[str]:
    """What of the expected numbers of accepted items is not so; None expects nothing.

    A span that came twice counts once. Log records and data points have no ids: each counts.
    """
    for name, count in expected.items():
        accepted = journal.counts.accepted[name]
        if name is Signal.TRACES:
            accepted = len(journal.span_keys())
        if count is not None and count != accepted:
            yield f"{TRAITS[name].counted(count)} expected, {accepted} accepted"
