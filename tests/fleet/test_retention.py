"""What waits comes near to what the brokers keep: they must not delete it unseen."""

import json
import random
from pathlib import Path
from typing import Any

from tests.fleet.fleets import relay_of
from tests.support.kafka import Brokers
from tests.support.relay_process import Relay, eventually


def post(relay: Relay, number: int) -> int:
    """A span that does not get smaller."""
    words = random.Random(number).randbytes(100_000).hex()
    attribute = {"key": "noise", "value": {"stringValue": words}}
    span = {"traceId": f"{number + 1:032x}", "spanId": f"{number + 1:016x}", "name": "noise"}
    entry = {"scopeSpans": [{"spans": [{**span, "attributes": [attribute]}]}]}
    return relay.post(json.dumps({"resourceSpans": [entry]}).encode())[0]


def test_relay_refuses_before_what_is_owed_is_pushed_out(broker: Brokers, tmp_path: Path) -> None:
    nobody = {"nobody": {"endpoint": "http://127.0.0.1:1/v1/traces"}}
    small: dict[str, Any] = {"partitions": 1, "retention_size": "24MiB", "name": "small"}
    names = {"topic": "small", "topic_json": "small_json"}
    with relay_of(broker, tmp_path / "a", nobody, **small, **names) as relay:
        posted = (post(relay, number) for number in range(10_000))
        eventually(lambda: next(posted) == 503, seconds=60, what="503 before the brokers delete")
        found = relay.status()
        assert found["buffer"]["is_full"]
        assert "raise fleet.retention_size" in found["not_ready_reason"]
        kept = relay.destination("nobody")
        assert kept["waiting_spans"] > 20
        assert kept["evicted_spans"] == 0
