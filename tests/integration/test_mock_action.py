"""The GitHub action of the mock collector, run as the runner runs it."""

import http.client
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]


def values(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


@pytest.mark.proofs  # it makes an environment and installs from a package index
def test_action_starts_a_collector_and_tells_the_job_where(tmp_path: Path) -> None:
    environ = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_ENV": str(tmp_path / "env"),
        "MOCK_SCRIPT": "202",
        "MOCK_PROFILE": "",
        "MOCK_PORT": str(free_port()),
        "MOCK_CONTROL_PORT": str(free_port()),
        "MOCK_SOURCE": str(ROOT / "mockcollector"),
    }
    ran = subprocess.run(
        [ROOT / "mockcollector" / "start.sh"], env=environ, timeout=170, check=False
    )
    assert ran.returncode == 0
    told, variables = values(tmp_path / "output"), values(tmp_path / "env")
    process = int(variables["MOCKCOLLECTOR_PID"])
    try:
        assert told["endpoint"] == variables["OTEL_EXPORTER_OTLP_ENDPOINT"]
        assert told["control"] == f"http://127.0.0.1:{environ['MOCK_CONTROL_PORT']}"
        connection = http.client.HTTPConnection("127.0.0.1", int(environ["MOCK_PORT"]), timeout=10)
        with closing(connection):
            connection.request("POST", "/v1/traces", b"{}", {"Content-Type": "application/json"})
            assert connection.getresponse().status == 202
    finally:
        os.kill(process, signal.SIGTERM)
