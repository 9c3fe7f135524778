"""What a lag full of traces costs: memory for ids, never for spans."""

import os
from pathlib import Path
from typing import Any

import pytest

from mockcollector.server import MockCollector
from tests.support.builders import protobuf_twin, request, span
from tests.support.relay_process import SERVED, Relay, eventually

pytestmark = [pytest.mark.proofs, pytest.mark.alone]
BUDGET_MIB = 120
TRACES, A_REQUEST = 100_000, 1000


def highest_mib(relay: Relay) -> float:
    assert relay.process is not None
    status = Path(f"/proc/{relay.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def test_a_hundred_thousand_traces_in_the_lag_stay_within_the_budget(tmp_path: Path) -> None:
    with MockCollector() as some, MockCollector() as everything:
        sample = {"ratio": 0.01, "keep": 'status == "ERROR"', "wait": "10m"}
        destinations: dict[str, dict[str, Any]] = {
            "some": {"endpoint": some.endpoint, "sample": sample},
            "everything": {"endpoint": everything.endpoint},
        }
        with Relay(tmp_path, destinations, command=SERVED) as relay:
            made = request(*(span(status={"code": 2}) for _ in range(A_REQUEST)))
            message = protobuf_twin(made)

            def post_others() -> None:
                for each in message.resource_spans[0].scope_spans[0].spans:
                    each.trace_id, each.span_id = os.urandom(16), os.urandom(8)
                headers = {"Content-Type": "application/x-protobuf"}
                assert relay.post(message.SerializeToString(), headers=headers)[0] == 200

            for _ in range(TRACES // A_REQUEST):
                post_others()
            eventually(
                lambda: relay.destination("some")["held_spans"] == TRACES, seconds=60, what="all"
            )
            eventually(lambda: not relay.owed("everything"), seconds=60)
            first = highest_mib(relay)
            # And again from disk, after a restart.
            relay.kill()
            relay.start()
            eventually(
                lambda: relay.destination("some")["held_spans"] == TRACES, seconds=60, what="again"
            )
            again = highest_mib(relay)
            assert "kept_traces_overflow" not in relay.log()
            assert relay.destination("some")["overflowed_traces"] == 0
            # What is beyond that is counted, and told with what to do.
            post_others()
            eventually(lambda: relay.destination("some")["overflowed_traces"] == A_REQUEST)
            _status, metrics = relay.get("/metrics", parse=False)
            labels = 'destination="some",signal="traces"'
            assert f"otlp_relay_overflowed_traces_total{{{labels}}} {A_REQUEST}.0" in metrics
            for command in ("status", "doctor"):
                told = relay.run(command).stdout
                assert "some: 1,000 traces worth keeping came within wait beyond those" in told
                assert "shorten wait of sample, or let keep mean fewer traces" in told
    print(f"highest resident: {first:.0f} MiB, after a restart {again:.0f} MiB")
    assert max(first, again) < BUDGET_MIB
