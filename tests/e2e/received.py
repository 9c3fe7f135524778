"""Real receivers behind a relay: how items get there by way of it, and what came of them."""

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mockcollector.otlp_json import decode_request
from mockcollector.signals import TRAITS, Request, Signal
from tests.e2e.collector import STORAGE, Collector
from tests.e2e.receivers import Receiver
from tests.e2e.requests import each_item
from tests.e2e.tap import Tap
from tests.support.relay_process import Relay, eventually
from tests.unit.mockcollector.exchange import twin

Json = dict[str, Any]
FIXTURES = Path(__file__).parent.parent / "fixtures"
FIXTURES_END = 1767225660_000000000
SECOND, MINUTE, HOUR = 1_000_000_000, 60_000_000_000, 3_600_000_000_000
SIGNALS = [signal.value for signal in Signal]
ENCODINGS = ["json", "protobuf"]
NO_DETECTION = "[enrich]\ndetect = []\n"


def collector_config(*signals: str) -> str:
    """A Collector that keeps these signals in a file, and has no path for others."""
    pipeline = {"receivers": ["otlp"], "exporters": ["file"]}
    return json.dumps(
        {
            "receivers": {"otlp": {"protocols": {"http": {"endpoint": "0.0.0.0:4318"}}}},
            "exporters": {"file": {"path": f"{STORAGE}/all.json", "flush_interval": "50ms"}},
            "service": {
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": dict.fromkeys(signals, pipeline),
            },
        }
    )


class Kept:
    """A Collector with a file, and what came to that since `forget`."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self._file = collector.storage / "all.json"
        self._seen = 0

    @property
    def destination(self) -> Json:
        """As the relay knows it."""
        return {"endpoint": self.collector.endpoint, "signals": SIGNALS}

    def forget(self) -> None:
        """Leave out what is there by now."""
        self._seen = len(self._lines())

    def items(self, signal: str, count: int) -> list[tuple[bytes, ...]]:
        """As `each_item`, once there are so many of a signal."""
        found: list[tuple[bytes, ...]] = []

        def are_there() -> bool:
            found[:] = each_item(self.message(signal))
            return len(found) >= count

        eventually(are_there, what=f"{count} items of {signal} in the Collector's file")
        return found

    def message(self, signal: str) -> Request:
        """All of a signal that is there, as one request."""
        traits = TRAITS[Signal(signal)]
        whole: Any = traits.request()
        for line in self._lines()[self._seen :]:
            body, _ = decode_request(line, traits.request)
            whole.MergeFrom(body)
        return whole  # type: ignore[no-any-return]

    def _lines(self) -> list[bytes]:
        whole, _, _ = (
            self._file.read_bytes().rpartition(b"\n") if self._file.exists() else (b"",) * 3
        )
        return whole.splitlines()


def to(receiver: Receiver, preset: str, tap: Tap | None = None) -> dict[str, Json]:
    """The receiver as the one destination, by way of `tap`."""
    endpoint = receiver.endpoint
    if tap is not None:
        endpoint = endpoint.replace(f":{urlsplit(endpoint).port}/", f":{tap.port}/")
    return {"real": {"preset": preset, "endpoint": endpoint}}


def post(relay: Relay, made: Json, signal: str, encoding: str = "json") -> None:
    """Send it; it is to be taken without a word."""
    path = TRAITS[Signal(signal)].path
    if encoding == "json":
        answer = relay.post(made, path=path)
    else:
        body = twin(made, signal).SerializeToString()
        answer = relay.post(body, path=path, headers={"Content-Type": "application/x-protobuf"})
    assert answer in ((200, b"{}"), (200, b""))


def items_of(made: Json, signal: str) -> list[tuple[bytes, ...]]:
    """As `each_item`, of a request as it is posted."""
    message, _ = decode_request(json.dumps(made).encode(), TRAITS[Signal(signal)].request)
    return each_item(message)


def settle(relay: Relay, seconds: float = 30.0) -> None:
    """Until nothing is owed to any destination."""

    def is_settled() -> bool:
        return not any(each["waiting_spans"] for each in relay.status()["destinations"])

    eventually(is_settled, seconds=seconds, what="nothing owed")


def letters(relay: Relay, items: int = 0) -> list[Json]:
    """The dead letters, once they hold so many items: they are kept a moment after all is sent."""
    found: list[Json] = []

    def are_there() -> bool:
        status, page = relay.get("/api/dead-letters?limit=1000")
        assert (status, page["next"]) == (200, None), page
        found[:] = page["letters"]
        return sum(int(letter["spans"]) for letter in found) >= items

    eventually(are_there, what=f"dead letters of {items} items")
    return found


def fixture(name: str) -> Json:
    """The payload of that name."""
    (path,) = FIXTURES.glob(f"{name}.json")
    return dict(json.loads(path.read_text()))


def of_today(made: Any, *, service: str = "") -> Any:
    """The same as if it had just been sent, by a service of that name: receivers mind old times."""
    shift = time.time_ns() - FIXTURES_END
    if isinstance(made, list):
        return [of_today(each, service=service) for each in made]
    if not isinstance(made, dict):
        return made
    if service and made.get("key") == "service.name":
        return {"key": "service.name", "value": {"stringValue": service}}
    return {
        key: str(int(value) + shift)
        if key.endswith("UnixNano") and int(value or 0)
        else of_today(value, service=service)
        for key, value in made.items()
    }


def lines_of(real: Receiver, service: str, count: int) -> list[Json]:
    """What VictoriaLogs has of a service, once there are so many lines."""
    found: list[Json] = []

    def are_there() -> bool:
        found[:] = real.lines(f'"service.name":={service} | limit 1000')
        return len(found) >= count

    real.flush()
    eventually(are_there, what=f"{count} lines of {service} in VictoriaLogs")
    return found


def nanoseconds(text: str) -> int:
    """A time such as 2026-01-01T00:00:00.123456789Z, since the epoch."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return seconds * SECOND + int(fraction.ljust(9, "0") or 0)
