"""What failed once must fail again; what could not be tried is said so; the rest of the runner."""

import os
import select
import stat
import sys
from pathlib import Path

import pytest

from mockcollector.check import runner
from mockcollector.check.evidence import Verdict
from mockcollector.check.runner import Plan, check
from mockcollector.check.scenarios import chosen
from mockcollector.check.scenarios_settings import PLAIN
from mockcollector.signals import Signal

SENDER = (sys.executable, "-I", str(Path(__file__).with_name("sender.py")))
# Breaks the rule the first time that it meets a 503, and never again.
ONCE = """#!/bin/sh
if [ -n "$OTEL_EXPORTER_OTLP_TIMEOUT" ] && mkdir "{mark}" 2>/dev/null
then export BREAK=timeout; fi
exec "{python}" -I "{sender}"
"""


def plan_of(*command: str) -> Plan:
    return Plan(command=command, protocol="http/json", jobs=2, authority=None)


def test_what_fails_once_only_is_unsteady(tmp_path: Path) -> None:
    script = tmp_path / "once"
    script.write_text(ONCE.format(mark=tmp_path / "mark", python=sys.executable, sender=SENDER[-1]))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)

    card = check(plan_of(str(script)), chosen(["timeout"], []), lambda _line: None)

    (result,) = card.results
    assert result.verdict is Verdict.UNSTEADY
    assert "when it was tried again: given up after" in result.finding.words


def test_tls_is_not_judged_without_certificates() -> None:
    card = check(plan_of(*SENDER), chosen(["tls*"], []), lambda _line: None)

    assert {each.verdict for each in card.results} == {Verdict.NOT_APPLICABLE}
    assert "cryptography is not installed" in card.results[0].finding.words


def test_missing_package_means_no_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mockcollector.check.certificates", None)

    assert runner.certificates(tmp_path) is None


def test_variables_of_the_caller_do_not_reach_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-own=1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:9/elsewhere")

    wire = plan_of(*SENDER).run(PLAIN)[Signal.TRACES]

    assert wire.first is not None
    assert wire.first.request.header("x-own") is None
    assert wire.accepted == 2


def test_what_the_command_started_ends_with_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program = f"sleep 600 & echo $! > {pid_file}; exit 0"

    plan_of("/bin/sh", "-c", program).run(PLAIN)

    assert has_ended(int(pid_file.read_text()), seconds=10)


def has_ended(pid: int, seconds: float) -> bool:
    """Whether a process that is nobody's any more ends within that time, or has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        watched = select.poll()
        watched.register(descriptor, select.POLLIN)
        return bool(watched.poll(seconds * 1000))
    finally:
        os.close(descriptor)
