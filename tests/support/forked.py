"""A relay that is forked from a process that has imported it: the same, started without the wait.

What is imported lives in one process for all tests of this worker, which itself does nothing else
and has no threads; each relay has its own copy of that, and its own everything else.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["relay.cli.serve", "relay.daemon", "tests.support.forked"])


class ForkedRelay:
    """`otlp-relay serve` as a process, with what `subprocess.Popen` says about one."""

    def __init__(self, config: Path, log: Path, environ: Mapping[str, str]) -> None:
        arguments = (config, log, dict(environ))
        # As a daemon it ends with the tests at the latest, also when one forgets it.
        self._process = _SERVER.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, or minus the signal that killed it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it ends. Raises TimeoutExpired."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("otlp-relay serve", timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # the server that forked it has reaped it just now
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _serve(config: Path, log: Path, environ: Mapping[str, str]) -> None:
    """In the new process: become what the command line would have started."""
    from relay.cli import main

    os.environ.clear()
    os.environ.update(environ)
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(written, stream)
    os.close(written)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    main(["serve", "--config", str(config)], prog_name="otlp-relay")
