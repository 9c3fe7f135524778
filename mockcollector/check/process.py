"""The user's command in, run to its end or to a limit; its exit code and its output out."""

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

KEPT_OUTPUT_BYTES = 64 * 1024
_GRACE_SECONDS = 2.0
# What a variable of the caller must not decide: each run sets its own.
_SET_ASIDE = (
    *("OTEL_EXPORTER_OTLP_", "OTEL_BSP_", "OTEL_BLRP_"),
    # Some HTTP clients prefer these to the authority that their program gave them.
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_", "NODE_EXTRA_CA_CERTS"),
)


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended. `exit_code` is None where it had to be ended; negative for a signal."""

    exit_code: int | None
    seconds: float
    output: str


def run(command: Sequence[str], environ: Mapping[str, str], limit_seconds: float) -> Ended:
    """Run it with these variables over ours. Raises OSError when it cannot be started.

    It gets a process group of its own, so that what it started ends with it.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith(_SET_ASIDE)}
    loopback = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(  # noqa: S603 - the user's own command
            command,
            env=own | loopback | dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        is_over = False
        try:
            is_over = _waits(process, limit_seconds)
        finally:
            _end(process)
        seconds = time.monotonic() - began
        output.seek(max(0, output.seek(0, os.SEEK_END) - KEPT_OUTPUT_BYTES))
        exit_code = process.returncode if is_over else None
        return Ended(exit_code, seconds, output.read().decode(errors="replace"))


def _waits(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Whether it is over within that time; it is not reaped, so that its number stays its own."""
    if not hasattr(os, "pidfd_open"):
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True
    descriptor = os.pidfd_open(process.pid)
    try:
        watched = select.poll()
        watched.register(descriptor, select.POLLIN)
        return bool(watched.poll(seconds * 1000))
    finally:
        os.close(descriptor)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End its group: also what it has left running."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        if number is signal.SIGTERM:
            _waits(process, _GRACE_SECONDS)
    process.wait()
