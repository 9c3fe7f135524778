"""Whether bodies are prepared natively is said where somebody looks; without it all works."""

import json
from pathlib import Path

import pytest

from mockcollector.server import MockCollector
from tests.support.builders import request, span
from tests.support.relay_process import SERVED, Relay, eventually


@pytest.mark.parametrize(("pure", "state"), [("1", "off: RELAY_PURE is set"), ("", "active")])
def test_status_doctor_and_the_log_say_which_path_is_taken(
    tmp_path: Path, pure: str, state: str
) -> None:
    if not pure:
        pytest.importorskip("otlp_relay_native", reason="not built: make native")
    with MockCollector() as upstream:
        destinations = {"up": {"endpoint": upstream.endpoint}}
        environ = {"RELAY_PURE": pure}
        with Relay(tmp_path, destinations, environ=environ, command=SERVED) as relay:
            assert relay.post(request(span()))[0] == 200
            eventually(lambda: relay.destination("up")["delivered_spans"] == 1)

            assert relay.status()["native_pass"] == state
            ready = next(line for line in relay.log().splitlines() if '"ready"' in line)
            assert json.loads(ready)["native_pass"] == state
            assert f"native   {state}" in relay.run("status").stdout
            found = json.loads(relay.run("doctor", "--json").stdout)["relay"]
            words = {each["name"]: each["found"] for each in found}
            assert words["native"].startswith(state)
