"""The helper process: the same answers as without it, its limits, its deaths, what it may touch."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from relay.config import IngestConfig
from relay.ingest import pipeline as pipeline_module
from relay.ingest.offload import process as process_module
from relay.ingest.offload.child import MEMORY_BYTES
from relay.ingest.offload.offload import Offload
from relay.ingest.offload.process import OffloadDied, OffloadProcess
from relay.ingest.offload.wire import Channel, Job
from relay.ingest.pipeline import Pipeline
from relay.model.counters import Counters
from relay.model.errors import Refusal
from relay.model.records import BodyFlag, Encoding, Request, Sender, SenderResponse, Signal
from relay.otlp.protobuf import ProtobufRequest
from relay.otlp.protobuf_writer import delimited
from relay.otlp.signals import WIRE
from relay.process.prepare import Prepare, Prepared, PrepareSettings
from tests.support import builders
from tests.support.child_code import run_before_checks, run_in_children
from tests.support.fixtures import fixtures_of
from tests.support.relay_process import eventually

pytestmark = pytest.mark.anyio
BODIES = {fixture.name: fixture.body for fixture in fixtures_of("traces")}
MIB = 1024 * 1024
LOCAL = Sender("127.0.0.1", is_local=True)
USUAL = PrepareSettings(detected={"host.name": "box"}, configured={"team": "blue"})


@pytest.fixture(autouse=True)
def in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the helper do it in Python: natively little takes long enough for its limits."""
    monkeypatch.setenv("RELAY_PURE", "1")


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Offload]:
    helper = Offload(**settings)
    helper.start()
    try:
        yield helper
    finally:
        await helper.stop()


async def until(ask: Callable[[], bool], seconds: float = 15.0) -> None:
    with anyio.fail_after(seconds):
        while not ask():  # noqa: ASYNC110 - it is another process that changes
            await anyio.sleep(0.005)


async def ask(helper: Offload, body: bytes, settings: PrepareSettings = USUAL) -> Prepared:
    return await helper.prepare(settings, body, Encoding.JSON, LOCAL)


async def warm(helper: Offload) -> None:
    """Until the process has loaded what it needs, which may be longer than a test's patience."""
    with anyio.fail_after(15):
        while True:
            with suppress(Refusal):
                await ask(helper, SMALL)
                return


def varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])


def many_values(count: int) -> bytes:
    """A valid body with that many empty values: about 0.6 s and 100 MiB a million."""
    value: builders.Json = {"arrayValue": {"values": [{}]}}
    body = builders.to_body(builders.with_value(value))
    return body.replace(b'"values":[{}]', b'"values":[' + b"{}," * (count - 1) + b"{}]")


SMALL = builders.to_body(builders.request(builders.span()))


# --- the same as without it ----------------------------------------------------------------------


class Kept:
    """Stands for the buffer."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    async def append(self, request: Request) -> None:
        self.requests.append(request)


async def outcome(
    helper: Offload | None,
    body: bytes,
    encoding: Encoding,
    sender: Sender,
    kind: Signal = Signal.TRACES,
    native_pass: Any = None,
) -> Any:
    """All that can be seen of a request: what is kept, answered and counted.

    What holds the loop too long is so in Python; natively much more is prepared where it is.
    """
    kept, counters = Kept(), Counters()
    prepare = Prepare(USUAL, native_pass=native_pass)
    way = Pipeline(prepare, kept, counters, offload=helper, clock_ns=lambda: 7)
    answer: SenderResponse | tuple[Any, ...]
    try:
        answer = await way.accept(body, encoding, sender, kind)
    except Refusal as refusal:
        answer = (type(refusal), refusal.status, refusal.grpc_code, refusal.message)
    counted = (
        counters.received_items,
        counters.kept_items,
        counters.rejected_items,
        counters.warnings,
    )
    return kept.requests, answer, counted


async def test_every_fixture_has_the_same_outcome_through_the_helper(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline_module, "is_heavy", lambda *_: True)
    monkeypatch.setattr(pipeline_module, "NEVER_HEAVY_BYTES", -1)
    many_bad = builders.request(*[builders.span(traceId="xyz")] * 1500, builders.span())
    large = builders.request(
        *[builders.span(attributes=[builders.text_attribute("k", "x" * 1000)])] * 2000
    )
    bodies = {**BODIES, "many_bad": builders.to_body(many_bad), "large": builders.to_body(large)}
    cases = [(body, Encoding.JSON) for body in bodies.values()]
    for body in bodies.values():
        try:
            twin = builders.protobuf_twin(json.loads(body)).SerializeToString()
        except (ValueError, TypeError, AttributeError, RecursionError):
            twin = body  # what has no twin is no protobuf either: also an answer
        cases.append((twin, Encoding.PROTOBUF))
    async with running() as helper:
        for sender in (Sender("127.0.0.1", is_local=True), Sender("192.0.2.1")):
            for body, encoding in cases:
                here = await outcome(None, body, encoding, sender)
                there = await outcome(helper, body, encoding, sender)
                assert there == here
        assert helper.statistics().jobs == 2 * len(cases)
        assert helper.statistics().restarts == 0


@pytest.mark.parametrize("kind", [Signal.LOGS, Signal.METRICS], ids=lambda kind: kind.word)
async def test_logs_and_metrics_have_the_same_outcome_through_the_helper(
    kind: Signal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_module, "is_heavy", lambda *_: True)
    monkeypatch.setattr(pipeline_module, "NEVER_HEAVY_BYTES", -1)
    fixtures = fixtures_of(kind.word)
    # Where the time of arrival is put in, it is another each time.
    bodies = [each.body for each in fixtures if "arrival" not in str(each.expected)]
    broken = delimited(b"\x0a", delimited(b"\x12", b"\x12\x01\x0a"))
    sent = [(body, Encoding.JSON) for body in bodies]
    for body in bodies:
        try:
            twin = builders.protobuf_twin(json.loads(body), WIRE[kind].request).SerializeToString()
        except (ValueError, AttributeError):
            continue  # what protobuf cannot say, such as an enum by its name
        sent += [(twin, Encoding.PROTOBUF), (twin + broken, Encoding.PROTOBUF)]
    async with running() as helper:
        for body, encoding in sent:
            here = await outcome(None, body, encoding, LOCAL, kind)
            assert await outcome(helper, body, encoding, LOCAL, kind) == here
        assert helper.statistics().jobs == len(sent)


async def test_helper_keeps_flags_services_and_cuts_like_the_loop() -> None:
    value = {"doubleValue": "NaN"}
    spans = [builders.span(attributes=[{"key": "k", "value": value}]) for _ in range(20_000)]
    async with running() as helper:
        prepared = await ask(helper, builders.to_body(builders.request(*spans, service="till")))

    assert prepared.items == sum(piece.items for piece in prepared.pieces) == 20_000
    assert len(prepared.pieces) > 1
    assert {piece.services for piece in prepared.pieces} == {("till",)}
    assert {piece.flags for piece in prepared.pieces} == {BodyFlag.SPECIAL_DOUBLES}


async def test_helper_takes_up_what_a_reload_has_changed() -> None:
    async with running() as helper:
        before = await ask(helper, SMALL)
        after = await ask(helper, SMALL, PrepareSettings(configured={"team": "red"}))
        derived = await helper.prepare(
            replace(USUAL, malformed_ids="derive"),
            builders.to_body(builders.request(builders.span(traceId="t-1"))),
            Encoding.JSON,
            Sender("192.0.2.1"),
        )

    assert b'"box"' in before.pieces[0].body
    assert b'"blue"' in before.pieces[0].body
    assert b'"box"' not in after.pieces[0].body
    assert b'"red"' in after.pieces[0].body
    assert derived.items == 1


# --- which bodies go there ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "encoding", "is_for_helper"),
    [
        (builders.to_body(builders.with_value({"stringValue": "x" * MIB})), Encoding.JSON, True),
        (builders.to_body(builders.with_value({"stringValue": "x" * 1000})), Encoding.JSON, False),
        (many_values(60_000), Encoding.JSON, True),
        (many_values(1000), Encoding.JSON, False),
        (b'{"x":[' + b"0," * 200_000 + b"0]}", Encoding.JSON, True),
        (b"\x0a\x00" * 11_000, Encoding.PROTOBUF, True),
        (b"\x0a\x00" * 1000, Encoding.PROTOBUF, False),
    ],
    ids=["long", "short", "dense", "small", "exact", "protobuf-dense", "protobuf-small"],
)
async def test_only_what_would_hold_the_loop_goes_to_the_helper(
    body: bytes, encoding: Encoding, is_for_helper: bool
) -> None:
    async with running() as helper:
        here = await outcome(None, body, encoding, Sender("192.0.2.1"))
        there = await outcome(helper, body, encoding, Sender("192.0.2.1"))

        assert helper.statistics().jobs == is_for_helper
        assert there == here


async def test_many_links_in_protobuf_go_to_the_helper_unless_they_are_prepared_natively() -> None:
    link = {"traceId": builders.TRACE_ID, "spanId": builders.SPAN_ID}
    made = builders.request(builders.span(links=[link] * 10_500))
    body = builders.protobuf_twin(made).SerializeToString()
    assert len(body) < 512 * 1024
    async with running() as helper:
        there = await outcome(helper, body, Encoding.PROTOBUF, Sender("192.0.2.1"))

        assert helper.statistics().jobs == 1
        module = pytest.importorskip("otlp_relay_native", reason="not built: make native")
        sender = Sender("192.0.2.1")
        here = await outcome(helper, body, Encoding.PROTOBUF, sender, native_pass=module)
        assert helper.statistics().jobs == 1
        assert here == there


@pytest.mark.parametrize("encoding", list(Encoding))
async def test_helper_prepares_natively_as_it_does_in_python(
    monkeypatch: pytest.MonkeyPatch, encoding: Encoding
) -> None:
    pytest.importorskip("otlp_relay_native", reason="not built: make native")
    monkeypatch.setattr(pipeline_module, "is_heavy", lambda *_: True)
    made = builders.request(*[builders.span(name="x" * 600)] * 400, builders.span(traceId="xyz"))
    body = builders.to_body(made)
    if encoding is Encoding.PROTOBUF:
        body = builders.protobuf_twin(made).SerializeToString()
    found = []
    for pure in ("1", "0"):
        monkeypatch.setenv("RELAY_PURE", pure)
        async with running() as helper:
            found.append(await outcome(helper, body, encoding, Sender("192.0.2.1")))
            assert helper.statistics().jobs == 1

    assert found[0] == found[1]


# --- limits and deaths ----------------------------------------------------------------------------


async def kill_in_the_middle(helper: Offload, not_this: int = 0) -> int:
    """SIGKILL the process once it is well into a large body; its pid."""
    found = helper.statistics()

    def is_at_work() -> bool:
        nonlocal found
        found = helper.statistics()
        return found.pid not in (0, not_this) and found.resident_bytes > 60 * MIB

    await until(is_at_work)
    os.kill(found.pid, signal.SIGKILL)
    return found.pid


async def test_job_is_tried_once_more_when_the_process_is_killed() -> None:
    body = many_values(1_500_000)
    async with running() as helper, anyio.create_task_group() as group:
        group.start_soon(kill_in_the_middle, helper)
        prepared = await ask(helper, body)

        assert prepared.items == 1
        assert helper.statistics().failures == {"died": 1}
        assert helper.statistics().restarts == 1


async def test_body_whose_process_is_killed_twice_is_503_and_the_next_one_passes() -> None:
    """Who kills it is somebody else: it says nothing about the body."""

    async def kill_twice() -> None:
        await kill_in_the_middle(helper, not_this=await kill_in_the_middle(helper))

    async with running() as helper, anyio.create_task_group() as group:
        group.start_soon(kill_twice)
        with pytest.raises(Refusal, match=r"was killed twice; retry") as refusal:
            await ask(helper, many_values(1_500_000))
        after = await ask(helper, SMALL)

    assert (refusal.value.status, refusal.value.grpc_code) == (503, 14)
    assert after.items == 1


async def test_body_that_takes_too_long_is_413_and_the_next_one_passes() -> None:
    async with running(job_seconds=0.2) as helper:
        body = many_values(1_500_000)
        began = time.monotonic()
        with pytest.raises(Refusal, match="more time") as refusal:
            await ask(helper, body)
        seconds = time.monotonic() - began

        assert refusal.value.status == 413
        assert seconds < 3
        await until(lambda: helper.statistics().pid != 0)  # before anything asks for it
        assert (await ask(helper, SMALL)).items == 1


async def test_body_that_makes_the_process_crash_is_413_and_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    line = "if b'crash' in body: os.kill(os.getpid(), signal.SIGSEGV)"
    run_before_checks(monkeypatch, tmp_path, line)
    async with running() as helper:
        with pytest.raises(Refusal, match="more memory") as refusal:
            await ask(helper, builders.to_body(builders.request(builders.span(name="crash"))))
        after = await ask(helper, SMALL)

        assert refusal.value.status == 413
        assert after.items == 1
        assert helper.statistics().failures == {"died": 1, "too_much": 1}
        assert helper.statistics().restarts == 1


async def test_body_of_empty_messages_is_413_before_each_is_looked_at() -> None:
    """2.7 kB on the wire: checking its 1.3 million spans one by one took 6 s."""
    spans = b"\x12\x00" * 1_300_000
    inner = b"\x12" + varint(len(spans)) + spans
    async with running() as helper:
        await warm(helper)
        body = b"\x0a" + varint(len(inner)) + inner
        with pytest.raises(Refusal, match="most of them must be empty") as refusal:
            await helper.prepare(USUAL, body, Encoding.PROTOBUF, LOCAL)

        assert (refusal.value.status, refusal.value.grpc_code) == (413, 8)
        assert helper.statistics().failures == {"too_much": 1}


@pytest.mark.parametrize("encoding", list(Encoding), ids=["json", "protobuf"])
async def test_body_that_needs_too_much_memory_is_413_and_the_next_one_passes(
    encoding: Encoding,
) -> None:
    body = b"\x0a\x02\x1a\x00" * (15 * MIB)
    if encoding is Encoding.JSON:
        body = b'{"resourceSpans":[' + b"{}," * 7_900_000 + b"{}]}"
    async with running() as helper:
        with pytest.raises(Refusal, match="more memory") as refusal:
            await helper.prepare(USUAL, body, encoding, LOCAL)

        assert refusal.value.status == 413
        assert helper.statistics().failures == {"too_much": 1}
        assert (await ask(helper, SMALL)).items == 1


async def test_body_of_more_objects_than_any_real_one_is_413_at_once() -> None:
    async with running() as helper:
        body = many_values(9_000_000)
        began = time.monotonic()
        with pytest.raises(Refusal, match="more memory") as refusal:
            await ask(helper, body)

        assert time.monotonic() - began < 2.5
        assert refusal.value.status == 413


async def test_what_is_added_to_many_tiny_resources_cannot_grow_without_end() -> None:
    entry = builders.request(builders.span(name="", attributes=[]), service="")["resourceSpans"][0]
    large = builders.request(builders.span(name="x" * 40 * MIB))["resourceSpans"][0]
    body = builders.to_body({"resourceSpans": [*[entry] * 20_000, large]})
    huge = PrepareSettings(configured={"k": "x" * 8000})
    async with running() as helper:
        with pytest.raises(Refusal, match="more space") as refusal:
            await ask(helper, body, huge)

    assert refusal.value.status == 413


async def test_process_that_has_grown_gives_memory_back_or_is_replaced() -> None:
    spans = [builders.span(name="x" * 700) for _ in range(100_000)]
    body = builders.to_body(builders.request(*spans))
    async with running() as helper:
        await ask(helper, body)
        assert helper.statistics().resident_bytes < 100 * MIB
        await ask(helper, SMALL)

        assert helper.statistics().resident_bytes < 100 * MIB
        assert helper.statistics().failures == {}


async def test_process_gets_warm_before_the_first_body_comes() -> None:
    async with running() as helper:
        await until(lambda: helper.statistics().pid != 0)


async def test_idle_process_that_is_killed_is_replaced_before_it_is_needed() -> None:
    async with running() as helper:
        await ask(helper, SMALL)
        before = helper.statistics().pid
        os.kill(before, signal.SIGKILL)
        await until(lambda: helper.statistics().pid not in (0, before))

        assert (await ask(helper, SMALL)).items == 1
        assert helper.statistics().failures == {}


async def test_bug_in_the_process_is_no_verdict_on_the_body(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_before_checks(monkeypatch, tmp_path, "raise KeyError('a bug')")
    async with running() as helper:
        with pytest.raises(RuntimeError, match="a bug"):
            await ask(helper, SMALL)

        assert helper.statistics().failures == {"bug": 1}


# --- a queue with an end --------------------------------------------------------------------------


async def test_what_would_wait_too_long_is_503_at_once() -> None:
    async with running(patience_seconds=0.5) as helper, anyio.create_task_group() as group:
        await warm(helper)
        group.start_soon(ask, helper, many_values(1_000_000))
        await until(lambda: helper.statistics().waiting == 1)
        with pytest.raises(Refusal, match="overloaded") as refusal:
            await ask(helper, bytes(8 * MIB))

        assert (refusal.value.status, refusal.value.grpc_code) == (503, 14)
        assert helper.statistics().waiting == 1  # the one before it is not done yet


async def test_what_has_waited_too_long_is_503_and_not_begun() -> None:
    async with running(patience_seconds=0.2) as helper, anyio.create_task_group() as group:
        await warm(helper)
        before = helper.statistics().failures.get("busy", 0)
        group.start_soon(ask, helper, many_values(1_000_000))
        await until(lambda: helper.statistics().waiting == 1)
        with pytest.raises(Refusal, match="overloaded") as refusal:
            await ask(helper, SMALL)

        assert refusal.value.status == 503
        assert helper.statistics().failures == {"busy": before + 1}


async def test_stop_ends_the_job_in_hand_and_refuses_what_waits() -> None:
    refused: list[Refusal] = []

    async def give(body: bytes) -> None:
        with pytest.raises(Refusal) as refusal:
            await ask(helper, body)
        refused.append(refusal.value)

    async with running() as helper, anyio.create_task_group() as group:
        group.start_soon(give, many_values(2_000_000))
        await until(lambda: helper.statistics().resident_bytes > 60 * MIB)
        group.start_soon(give, SMALL)
        await until(lambda: helper.statistics().waiting == 2)
        pid = helper.statistics().pid
        began = time.monotonic()
        await helper.stop()

        assert time.monotonic() - began < 2
    assert [refusal.status for refusal in refused] == [503, 503]
    assert not is_running(pid)


async def test_where_no_process_can_be_spawned_it_is_503() -> None:
    def no_room() -> OffloadProcess:
        raise BlockingIOError("no more processes")

    async with running(spawn=no_room) as helper:
        with pytest.raises(Refusal, match="cannot be started") as refusal:
            await ask(helper, SMALL)

    assert refusal.value.status == 503


async def test_where_the_process_dies_at_its_start_it_is_503(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_in_children(monkeypatch, tmp_path, "raise SystemExit(9)\n")
    async with running() as helper:
        with pytest.raises(Refusal, match="cannot be started") as refusal:
            await ask(helper, SMALL)

    assert refusal.value.status == 503


async def test_sender_that_has_gone_costs_the_next_one_nothing() -> None:
    async with running() as helper:
        with anyio.move_on_after(0.05):
            await ask(helper, many_values(200_000))

        assert (await ask(helper, SMALL)).items == 1
        assert helper.statistics().waiting == 0
        assert helper.statistics().waiting_bytes == 0


# --- what the process may touch -------------------------------------------------------------------


def job() -> Job:
    return Job(int(Encoding.JSON), True, PrepareSettings(), 10.0, 1024 * MIB)


@pytest.fixture
def process() -> Any:
    made = OffloadProcess()
    made.wait_ready()
    yield made
    made.close()


def limit_of(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line for line in lines if line.startswith(name))[len(name) :].split()[0]


def test_process_has_limits_and_gives_way(process: OffloadProcess) -> None:
    pid = process.pid

    assert limit_of(pid, "Max address space") == str(1024 * MIB)
    assert limit_of(pid, "Max core file size") == "0"
    assert os.getpriority(os.PRIO_PROCESS, pid) >= 5
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) >= 500
    assert os.getsid(pid) == pid


async def test_job_may_take_memory_by_the_size_of_its_body() -> None:
    body = many_values(1_500_000)
    allowed = 256 * MIB + 16 * len(body)
    async with running() as helper, anyio.create_task_group() as group:
        await warm(helper)
        group.start_soon(ask, helper, body)
        pid = helper.statistics().pid
        await until(lambda: limit_of(pid, "Max address space") == str(allowed))
        await until(lambda: helper.statistics().waiting == 0)

        assert limit_of(pid, "Max address space") == str(1024 * MIB)
        assert helper.statistics().pid == pid


def test_unit_has_memory_for_the_daemon_all_bodies_in_flight_and_the_process() -> None:
    """Above MemoryHigh the kernel slows the daemon down, and with it every sender."""
    unit = Path(__file__).parents[2] / "systemd" / "otlp-relay.service"
    high = next(line for line in unit.read_text().splitlines() if line.startswith("MemoryHigh="))
    daemon_bytes = 120 * MIB

    assert int(high.removeprefix("MemoryHigh=").removesuffix("M")) * MIB >= (
        daemon_bytes + IngestConfig().max_in_flight_bytes + MEMORY_BYTES
    )


def test_process_inherits_no_socket_no_file_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SOME_TOKEN", "hush")
    with socket.create_server(("127.0.0.1", 0)) as listener, (tmp_path / "lock").open("w") as lock:
        os.set_inheritable(listener.fileno(), True)
        os.set_inheritable(lock.fileno(), True)
        made = OffloadProcess()
        made.wait_ready()
        try:
            links = [str(each.readlink()) for each in Path(f"/proc/{made.pid}/fd").iterdir()]
            environ = Path(f"/proc/{made.pid}/environ").read_bytes()
            inode = os.fstat(listener.fileno()).st_ino
        finally:
            made.close()

    assert f"socket:[{inode}]" not in links
    assert str(tmp_path / "lock") not in links
    assert b"hush" not in environ


def test_signals_of_a_stop_do_not_end_it(process: OffloadProcess) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(process.pid, number)

    assert process.ask(job(), SMALL).items == 1


@pytest.mark.parametrize("memory_bytes", [1, 1024 * MIB], ids=["spent", "closed"])
def test_end_that_was_meant_is_no_failure(memory_bytes: int) -> None:
    made = OffloadProcess()
    made.wait_ready()
    with suppress(Refusal):
        made.ask(replace(job(), memory_bytes=memory_bytes), many_values(100_000))

    assert made.is_spent == (memory_bytes == 1)
    assert made.close() == 0


def test_process_is_asked_in_vain_once_it_is_dead(process: OffloadProcess) -> None:
    process.kill()
    with pytest.raises(OffloadDied) as death:
        process.ask(job(), SMALL)

    assert death.value.returncode == -signal.SIGKILL
    assert not death.value.is_overdue


def test_process_that_falls_silent_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own alarm cannot wake it while it is stopped."""
    monkeypatch.setattr(process_module, "_SILENCE_SECONDS", 1)
    monkeypatch.setattr(process_module, "_END_SECONDS", 0.2)
    made = OffloadProcess()
    made.wait_ready()
    os.kill(made.pid, signal.SIGSTOP)
    with pytest.raises(OffloadDied) as death:
        made.ask(job(), SMALL)

    assert death.value.returncode == -signal.SIGKILL


def test_process_ends_when_who_spawned_it_is_killed() -> None:
    code = (
        "import time\nfrom relay.ingest.offload.process import OffloadProcess\n"
        "made = OffloadProcess()\nmade.wait_ready()\nprint(made.pid, flush=True)\ntime.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_running(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()

    eventually(lambda: not is_running(pid), seconds=5.0, what="the end of the process")


def is_running(pid: int) -> bool:
    """Whether it is there and no zombie that waits for the init of a container."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def test_channel_passes_large_bodies_on_and_tells_when_the_other_end_is_gone() -> None:
    ours, theirs = socket.socketpair()
    here, there = Channel(ours), Channel(theirs)
    body = os.urandom(4 * MIB)
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, here.send, job(), body)
        message, received = await anyio.to_thread.run_sync(there.receive)
    here.close()

    assert (message, received == body) == (job(), True)
    with pytest.raises(EOFError):
        there.receive()
    there.close()


def test_rejected_spans_of_protobuf_are_taken_out_whole() -> None:
    """Many at once are taken out by another way than a few; what stays is the same."""
    good = [builders.span(spanId=f"{n:016x}") for n in range(1, 201)]
    bad = [builders.span(traceId="00" * 16) for _ in range(200)]
    mixed = [span for pair in zip(good, bad, strict=True) for span in pair]
    body = builders.protobuf_twin(builders.request(*mixed)).SerializeToString()
    checked = Prepare(PrepareSettings(malformed_ids="reject")).check(body, Encoding.PROTOBUF)
    checked.request.pieces(1 << 40)

    assert isinstance(checked.request, ProtobufRequest)
    assert [span.span_id.hex() for span in checked.request.records] == [s["spanId"] for s in good]
    assert len(checked.rejected) == 200
