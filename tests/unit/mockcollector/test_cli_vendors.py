"""The command's options for vendors and the control API."""

import http.client
import json
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from mockcollector.profiles import PROFILES

COMMAND = [sys.executable, "-c", "from mockcollector.cli import main; main()"]


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *options], capture_output=True, text=True, check=False, timeout=30
    )


def post(url: str, headers: dict[str, str]) -> int:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        connection.request(
            "POST", parts.path, b"{}", {"Content-Type": "application/json"} | headers
        )
        return connection.getresponse().status
    finally:
        connection.close()


def test_serve_is_the_vendor_and_has_the_control_api() -> None:
    options = ["--profile", "axiom", "--token", "t", "--profile-option", "dataset=d", "--json"]
    addresses = ["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]
    with subprocess.Popen(
        [*COMMAND, "serve", *options, *addresses], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            first = json.loads(process.stdout.readline())
            right = {"Authorization": "Bearer t", "X-Axiom-Dataset": "d"}

            assert (first["event"], first["profile"]) == ("listening", "axiom")
            assert post(first["endpoint"], right) == 200
            assert post(first["endpoint"], right | {"Authorization": "Bearer x"}) == 403
            assert post(f"{first['control']}/release", {}) == 200
        finally:
            process.terminate()


def test_profiles_lists_every_vendor_with_what_is_unconfirmed() -> None:
    records = {record["name"]: record for record in json.loads(run("profiles", "--json").stdout)}
    text = run("profiles").stdout

    assert list(records) == list(PROFILES)
    assert records["tempo"]["options"] == ["multitenancy"]
    assert any("400 here" in words for words in records["axiom"]["unconfirmed"])
    for name, record in records.items():
        assert f"{name}  {record['path']}\n  {record['summary']}" in text
        assert all(f"unconfirmed: {words}" in text for words in record["unconfirmed"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--profile", "axion"], "did you mean 'axiom'?"),
        (["--profile", "jaeger", "--token", "hunter2"], "jaeger has no token"),
        (["--profile", "tempo", "--profile-option", "multitenancy"], "NAME=VALUE"),
        (["--profile-option", "a=b"], "needs --profile"),
        (["--token", "hunter2"], "--token needs --profile"),
        (["--control", "nowhere"], "is not HOST:PORT"),
    ],
)
def test_wrong_vendor_option_is_usage_error_2(options: list[str], words: str) -> None:
    done = run("serve", "--listen", "127.0.0.1:0", *options)

    assert done.returncode == 2
    assert words in done.stderr
    assert "hunter2" not in done.stderr
