"""From a seed to one OTLP/HTTP request: a right one, an odd one, or a broken one."""

import gzip
import random
import sys
import zlib
from dataclasses import dataclass
from typing import Final

from relay.model.records import Signal
from tests.support.json_fuzz import JsonBodies
from tests.support.protobuf_fuzz import ProtobufBodies

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PATHS: Final = {signal: f"/v1/{signal.name.lower()}" for signal in Signal}
JSON, PROTOBUF = "application/json", "application/x-protobuf"
# One in ten has a head that is not the usual one.
_HEAD_CHANGES: Final = 0.1
_TYPES: Final = (
    *(f"{JSON}; charset=utf-8", f"{JSON};charset=UTF-8", f"{JSON}; foo=bar", "Application/JSON"),
    *("text/plain", "application/octet-stream", "application/json, text/plain", ""),
    *(f"{PROTOBUF}; charset=utf-8", "APPLICATION/X-PROTOBUF", "application/protobuf"),
)
_OTHER_PATHS: Final = ("/v1/traces/", "//v1/logs", "/v1/spans", "/", "/v1/Metrics")
_OTHER_METHODS: Final = ("GET", "DELETE", "PATCH")


@dataclass(frozen=True)
class Made:
    """One request. `has_json` says what its body is, whatever its head says."""

    seed: int
    signal: Signal
    has_json: bool
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def __str__(self) -> str:
        kind = "json" if self.has_json else "protobuf"
        return f"seed {self.seed}: {self.method} {self.path} {kind} {self.headers}"


def request_of(seed: int) -> Made:
    """The request of this seed: six in ten JSON, all three signals in turn."""
    rng = random.Random(-seed - 1)
    signal = tuple(Signal)[seed % 3]
    has_json = seed % 5 < 3
    body = (JsonBodies if has_json else ProtobufBodies)(seed).body(signal)
    method, path = "POST", PATHS[signal]
    headers = {"Content-Type": JSON if has_json else PROTOBUF}
    if rng.random() < _HEAD_CHANGES:
        match rng.randrange(5):
            case 0 | 1:
                headers["Content-Type"] = rng.choice(_TYPES)
            case 2:
                headers["Content-Type"] = PROTOBUF if has_json else JSON
            case 3:
                path = rng.choice((*PATHS.values(), *_OTHER_PATHS))
            case _:
                method = rng.choice(_OTHER_METHODS)
    if rng.random() < 0.3:
        headers["Content-Encoding"], body = _packed(rng, body)
    return Made(seed, signal, has_json, method, path, headers, body)


def _packed(rng: random.Random, body: bytes) -> tuple[str, bytes]:
    """A name of a coding and the body in it, one in four with damage."""
    coding = rng.choice(("gzip", "gzip", "gzip", "deflate", "zstd", "identity", "x-gzip", "GZIP"))
    if rng.random() < 0.05:
        return rng.choice(("br", "gzip, gzip", "none")), body
    match coding:
        case "deflate":
            packed = zlib.compress(body)
        case "zstd":
            packed = zstd.compress(body)
        case "identity":
            return coding, body
        case _:
            packed = gzip.compress(body, mtime=0)
    roll = rng.random()
    if roll < 0.08:
        packed = packed[: rng.randrange(len(packed))]
    elif roll < 0.16:
        at = rng.randrange(len(packed))
        packed = packed[:at] + bytes((packed[at] ^ 1 << rng.randrange(8),)) + packed[at + 1 :]
    elif roll < 0.2:
        packed += packed if rng.random() < 0.5 else b"more"
    elif roll < 0.25:
        packed = body
    return coding, packed
