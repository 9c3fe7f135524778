"""A sender that means ill, or does not know what it does, and another one beside it.

Each attack runs for some seconds from this host against a relay of its own. Meanwhile a neighbour
posts as usual: its median may be three times what it was before, 95 of 100 of its requests are
answered 200, and the relay's memory stays bounded. `pytest -s` prints the figures.
"""

import contextlib
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from mockcollector.journal import Limits
from mockcollector.server import MockCollector
from tests.support.edge_server import Client, post
from tests.support.neighbour import Neighbour
from tests.support.relay_process import Relay

pytestmark = [pytest.mark.proofs, pytest.mark.alone, pytest.mark.timeout(120)]
MIB = 1024 * 1024
CALM_SECONDS = 2.0
ATTACK_SECONDS = 6.0
MOST_TIMES = 3.0
LEAST_SHARE = 0.95
# What a busy machine adds to a millisecond or two is no attack.
LEAST_MEDIAN = 0.004
GZIP = "Content-Encoding: gzip"
PROTOBUF = "Content-Type: application/x-protobuf"
JSON = "Content-Type: application/json"
IDS = b'"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708"'


# --- bodies ---------------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])


def field(tag: bytes, content: bytes) -> bytes:
    return tag + varint(len(content)) + content


def in_protobuf(spans: bytes) -> bytes:
    return field(b"\x0a", field(b"\x12", spans))


def in_json(spans: bytes) -> bytes:
    return b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + spans + b"]}]}]}"


def empty_values() -> bytes:
    """512 KiB of empty AnyValues and something that looks like NaN."""
    bait = field(b"\x0a", b"k") + field(b"\x12", b"\x3a\x09\x21\0\0\0\0\0\0\xf0\x7f")
    values = field(b"\x12", field(b"\x2a", b"\x0a\x00" * 260_000))
    ids = field(b"\x0a", b"a" * 16) + field(b"\x12", b"b" * 8)
    return in_protobuf(field(b"\x12", ids + field(b"\x4a", bait) + field(b"\x4a", values)))


def bare_spans() -> bytes:
    return in_json(b"{}," * 38_990 + b"{}")


def distinct_resources() -> bytes:
    entries = (b'{"resource":{"attributes":[{"key":"%d"}]}}' % number for number in range(13_000))
    return b'{"resourceSpans":[' + b",".join(entries) + b"]}"


def odd_members() -> bytes:
    """What only the exact way of JSON can read."""
    return in_json(b'{"x":1},' * 31_000 + b"{}")


def empty_spans() -> bytes:
    """2.7 kB when zipped."""
    return in_protobuf(b"\x12\x00" * 1_300_000)


def heavy_values() -> bytes:
    """Small when zipped, half a second of a processor."""
    values = b"{}," * 900_000 + b"{}"
    attribute = b'[{"key":"k","value":{"arrayValue":{"values":[' + values + b"]}}}]"
    return in_json(b"{" + IDS + b',"attributes":' + attribute + b"}")


def zipped(body: bytes) -> bytes:
    return zlib.compress(body, 9, wbits=31)


def zstd_frames() -> bytes:
    """Frames of 256 bytes, ten bytes each, under windows of 8 MiB."""
    return (b"\x28\xb5\x2f\xfd\x00\x68" + (256 << 3 | 3).to_bytes(3, "little") + b" ") * 20_000


# --- attacks --------------------------------------------------------------------------------------


class Attack:
    """Threads that attack until the end of a `with`; `statuses` is what they were answered."""

    def __init__(self, relay: Relay, runs: list[Callable[["Attack"], None]]) -> None:
        self.relay = relay
        self.statuses: Counter[int] = Counter()
        self.over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(run,)) for run in runs]

    def _run(self, run: Callable[["Attack"], None]) -> None:
        while not self.over.is_set():
            # It may be cut off at any time: that is what the relay is for.
            with contextlib.suppress(OSError, EOFError):
                run(self)
            self.over.wait(0.05)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()


def authorised(token: str) -> tuple[str, ...]:
    return (f"Authorization: Bearer {token}",) if token else ()


def at_rate(
    body: bytes, *headers: str, bytes_a_second: float = 0, pause: float = 0.0
) -> Callable[[Attack], None]:
    """The same request over and over, so many bytes of it a second; all at once if 0."""
    whole = post(body, *headers, content_type=None)

    def run(attack: Attack) -> None:
        with Client(attack.relay.ingest_port) as client:
            while not attack.over.is_set():
                step = int(bytes_a_second / 10) or len(whole)
                for at in range(0, len(whole), step):
                    client.send(whole[at : at + step])
                    if bytes_a_second and attack.over.wait(0.1):
                        return
                attack.statuses[client.read().status] += 1
                attack.over.wait(pause)

    return run


def never_ending(unzipped_bytes: int, *headers: str) -> Callable[[Attack], None]:
    """A gzip body that unzips to so much, and then comes slowly and yields nothing more."""
    compressor = zlib.compressobj(9, wbits=31)
    body = compressor.compress(b" " * unzipped_bytes) + compressor.flush(zlib.Z_SYNC_FLUSH)

    def run(attack: Attack) -> None:
        with Client(attack.relay.ingest_port) as client:
            client.send(post(body, GZIP, *headers, length=len(body) + 1_000_000))
            client.sock.settimeout(0.05)
            while not attack.over.is_set():
                client.send(b"\0\0\0\xff\xff" * 20)  # more than a thousand bytes a second
                with contextlib.suppress(TimeoutError):
                    line = client.sock.recv(100)
                    attack.statuses[int(line.split()[1]) if line else 0] += 1
                    return

    return run


# --- measuring ------------------------------------------------------------------------------------


@pytest.fixture
def upstream() -> Iterator[MockCollector]:
    with MockCollector(keep="counts", limits=Limits(max_requests=100)) as collector:
        yield collector


TOKENS = '[ingest]\ntokens = ["attacker", "neighbour"]\n'


@pytest.fixture
def relay(tmp_path: Path, upstream: MockCollector) -> Iterator[Relay]:
    """One where each is known by a token."""
    made = Relay(
        tmp_path,
        {"mock": {"endpoint": upstream.endpoint}},
        command=("-m", "relay.cli"),
    )
    text = made.config.read_text()
    made.config.write_text(text.replace("[ingest]\n", TOKENS))
    with made as running:
        yield running


@pytest.fixture
def open_relay(tmp_path: Path, upstream: MockCollector) -> Iterator[Relay]:
    """One that asks for no token: all of this host are one sender."""
    made = Relay(tmp_path, {"mock": {"endpoint": upstream.endpoint}}, command=("-m", "relay.cli"))
    with made as running:
        yield running


def peak_mib(relay: Relay) -> tuple[int, int]:
    """The most that the daemon has held; what its helper holds now."""
    assert relay.process is not None
    text = Path(f"/proc/{relay.process.pid}/status").read_text()
    helper = relay.status()["helper"]["resident_bytes"]
    return int(text.partition("VmHWM:")[2].split()[0]) // 1024, helper // MIB


def measure(
    relay: Relay,
    name: str,
    runs: list[Callable[[Attack], None]],
    *,
    spans: int = 5,
    padding: int = 100,
    pause: float = 0.02,
    token: str = "",
    seconds: float = ATTACK_SECONDS,
    most_times: float = MOST_TIMES,
) -> Counter[int]:
    """Attack beside a neighbour and check what it notices; what the attackers were answered."""
    usual = Neighbour(relay.ingest_port, spans=spans, padding=padding, pause=pause, token=token)
    with usual:
        time.sleep(CALM_SECONDS)  # the time that is measured
    beside = Neighbour(relay.ingest_port, spans=spans, padding=padding, pause=pause, token=token)
    helper_mib = 0
    with Attack(relay, runs) as attack, beside:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            helper_mib = max(helper_mib, peak_mib(relay)[1])
            time.sleep(0.1)  # between two looks
    daemon_mib = peak_mib(relay)[0]
    answered = dict(attack.statuses)
    slowest = sorted(beside.seconds)[int(len(beside.seconds) * 0.98)]
    print(
        f"\n{name}: median {usual.median * 1e3:.1f} → {beside.median * 1e3:.1f} ms"
        f" (98 % {slowest * 1e3:.0f} ms), 200 for {beside.share_kept:.1%} of"
        f" {len(beside.statuses)}, daemon {daemon_mib} MiB, helper {helper_mib} MiB,"
        f" attackers {answered}"
    )
    assert usual.share_kept == 1.0
    assert beside.share_kept >= LEAST_SHARE, Counter(beside.statuses)
    assert beside.median <= most_times * max(usual.median, LEAST_MEDIAN)
    assert daemon_mib < 400
    assert helper_mib < 640
    return attack.statuses


USUAL: Any = {"padding": 20_000}  # 100 kB


def bombs(*headers: str) -> list[Callable[[Attack], None]]:
    """Two large ones; the smaller ones fill what they leave of 128 MiB, but for some kilobytes."""
    sizes = [63 * MIB] * 2 + [MIB // 2] * 3 + [MIB // 32] * 8
    return [never_ending(size, *headers) for size in sizes]


def test_bodies_that_never_end_keep_no_other_token_out(relay: Relay) -> None:
    measure(relay, "never ending", bombs(*authorised("attacker")), **USUAL, token="neighbour")


def test_bodies_that_never_end_keep_nobody_of_the_same_host_out(open_relay: Relay) -> None:
    measure(open_relay, "never ending, same sender", bombs(), **USUAL)


def test_bodies_that_never_end_keep_large_ones_of_others_out_no_more(open_relay: Relay) -> None:
    measure(open_relay, "never ending, 2 MB", bombs(), spans=500, padding=3600, pause=0.2)


@pytest.mark.parametrize(
    ("body", "header", "bytes_a_second"),
    [
        (empty_values, PROTOBUF, 2400),
        (bare_spans, JSON, 2400),
        (odd_members, JSON, 2400),
        (distinct_resources, JSON, 48_000),  # they zip less well
    ],
    ids=["empty-values", "bare-spans", "odd-members", "distinct-resources"],
)
def test_two_slow_connections_hold_nobody_up(
    open_relay: Relay, body: Callable[[], bytes], header: str, bytes_a_second: float
) -> None:
    runs = [at_rate(zipped(body()), GZIP, header, bytes_a_second=bytes_a_second)] * 2
    measure(open_relay, f"{body.__name__} at {bytes_a_second / 1000} kB/s", runs)


@pytest.mark.parametrize(("body", "headers"), [(empty_spans, (PROTOBUF,)), (heavy_values, (JSON,))])
def test_heavy_bodies_leave_large_ones_of_others_their_turn(
    relay: Relay, body: Callable[[], bytes], headers: tuple[str, ...]
) -> None:
    whole = zipped(body())
    runs = [at_rate(whole, GZIP, *headers, *authorised("attacker"))] * 3
    measure(
        relay,
        f"{body.__name__} beside 1.9 MB",
        runs,
        spans=500,
        padding=3600,
        pause=0.2,
        token="neighbour",
        seconds=10,
    )


def test_heavy_bodies_of_the_same_sender_keep_no_large_one_out(open_relay: Relay) -> None:
    """It pays for itself: a body that is in hand cannot be interrupted, but all have their turn."""
    runs = [at_rate(zipped(heavy_values()), GZIP, JSON)] * 3
    name = "heavy_values beside 1.9 MB, same sender"
    measure(open_relay, name, runs, spans=500, padding=3600, pause=0.2, seconds=10, most_times=100)


def test_frames_of_zstd_that_hold_little_hold_nobody_up(open_relay: Relay) -> None:
    runs = [at_rate(zstd_frames(), "Content-Encoding: zstd", JSON, bytes_a_second=200_000)] * 2
    statuses = measure(open_relay, "zstd frames", runs)

    assert set(statuses) <= {400, 503}
