"""The payloads in tests/fixtures with what is to be answered, by signal.

`NN_name.json`, `.bin` and `.traces.json` are bodies for /v1/traces, `.logs.json` and
`.metrics.json` for the other two; `NN_name.expect.json` stands beside each.
"""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "fixtures"
NEW_NS = 1767225605 * 10**9
"""When the items of the fixtures are new: later they come with a warning."""
_ENDINGS = {
    "traces": (".json", ".bin", ".traces.json"),
    "logs": (".logs.json",),
    "metrics": (".metrics.json",),
}


@dataclass(frozen=True)
class Fixture:
    """A payload and its expectation: status, rejected, accepted, why; warning, relayed."""

    name: str
    body: bytes
    expected: dict[str, Any]

    def __str__(self) -> str:
        return self.name


def as_of_now(body: bytes) -> bytes:
    """The body with its times moved, so that its items are new."""
    later = time.time_ns() - NEW_NS
    return re.sub(rb"\b1767225[67]\d{11}\b", lambda found: b"%d" % (int(found[0]) + later), body)


def fixtures_of(signal: str) -> list[Fixture]:
    """All fixtures of "traces", "logs" or "metrics", in the order of their numbers."""
    return list(_read(signal))


def _read(signal: str) -> Iterator[Fixture]:
    for expectation in sorted(FOLDER.glob("*.expect.json")):
        name = expectation.name.removesuffix(".expect.json")
        for path in (FOLDER / f"{name}{ending}" for ending in _ENDINGS[signal]):
            if path.exists():
                yield Fixture(name, path.read_bytes(), json.loads(expectation.read_text()))
