"""One request answered over an exchange that is not there: what is told, kept, counted and let go.

What the same does over real sockets is in tests/integration/test_ingest_*.py.
"""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from relay.config import IngestConfig
from relay.ingest import endpoint as endpoint_module
from relay.ingest.endpoint import Ingest
from relay.ingest.in_flight import UNLISTED_BYTES
from relay.model.counters import Counters
from relay.model.errors import Refusal
from relay.model.records import SUCCESS, Encoding, Sender, SenderResponse, Signal
from relay.process.check.rejections import AllItemsRejected
from relay.server.exchange import Head, SenderGone
from tests.unit.buffer.making import eventually

pytestmark = pytest.mark.anyio
KIB = 1024
JSON, PROTOBUF = b"application/json", b"application/x-protobuf"
ROOM = 1024 * KIB


def head(
    *headers: tuple[bytes, bytes],
    content_type: bytes | None = JSON,
    address: str = "127.0.0.1",
    path: str = "/v1/traces",
    method: str = "POST",
) -> Head:
    lines = [*headers, (b"host", b"localhost")]
    if content_type is not None:
        lines.append((b"content-type", content_type))
    scope = {
        "method": method,
        "path": path,
        "headers": lines,
        "client": (address, 5),
        "server": ("127.0.0.1", 4318),
    }
    return Head(scope, is_kept_alive=True, is_continue_awaited=False)


class Exchange:
    """A request whose body comes in these pieces; it ends with the last, unless it `stalls`.

    An error among the pieces is raised where the body is read.
    """

    def __init__(self, head: Head, *pieces: bytes | BaseException, stalls: bool = False) -> None:
        self.head = head
        self.announced_bytes = 0
        self.at_once = b""
        self.is_whole = False
        self.keep_alive = True
        self.done: list[tuple[Any, ...]] = []
        """All that was done with it, in order."""
        self._pieces = list(pieces)
        self._stalls = stalls
        self._task: asyncio.Task[None] | None = None
        if not pieces:
            self.is_whole = True

    async def read(self) -> bytes:
        if not self._pieces:
            self._task = asyncio.current_task()
            await asyncio.Event().wait()
        piece = self._pieces.pop(0)
        if isinstance(piece, BaseException):
            raise piece
        self.is_whole = not self._pieces and not self._stalls
        return piece

    def cancel(self) -> None:
        self.done.append(("cancelled",))
        assert self._task is not None
        self._task.cancel()

    async def drain(self) -> None:
        self.done.append(("drained",))

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        self.done.append((status, headers, body))

    @property
    def answer(self) -> tuple[int, bytes, bytes]:
        (answer,) = (each for each in self.done if len(each) == 3)
        return answer


class Accept:
    """Stands for the pipeline, and waits where it is told to."""

    def __init__(self, answer: SenderResponse | Exception = SUCCESS) -> None:
        self.answer = answer
        self.goes = asyncio.Event()
        self.goes.set()
        self.bodies: list[bytes] = []
        self.signals: list[Signal] = []

    async def __call__(
        self, body: bytes, _encoding: Encoding, _sender: Sender, signal: Signal
    ) -> SenderResponse:
        self.bodies.append(body)
        self.signals.append(signal)
        await self.goes.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def ingest(accept: Any, counters: Counters | None = None, **settings: Any) -> Ingest:
    keep = settings.pop("keep_unreadable", None)
    config = IngestConfig(**({"max_in_flight_bytes": ROOM, "max_body_bytes": ROOM} | settings))
    return Ingest(config, accept, counters or Counters(), "own", keep_unreadable=keep)


def reload(way_in: Ingest, *tokens: str) -> None:
    config = IngestConfig(max_in_flight_bytes=ROOM, max_body_bytes=ROOM)
    way_in.reload(config, tokens=tokens, signals=Signal)


async def ask(way_in: Ingest, exchange: Exchange) -> tuple[int, bytes, bytes]:
    await way_in.answer(exchange)  # type: ignore[arg-type]
    return exchange.answer


@asynccontextmanager
async def waiting(way_in: Ingest, *exchanges: Exchange) -> AsyncIterator[None]:
    """These are being answered meanwhile, and have come as far as they can."""
    async with anyio.create_task_group() as tasks:
        for exchange in exchanges:
            tasks.start_soon(way_in.answer, exchange)  # type: ignore[arg-type]
        await anyio.wait_all_tasks_blocked()
        yield


# --- what is answered -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "lines", "body"),
    [
        (JSON, b"content-type: application/json\r\ncontent-length: 2\r\n", b"{}"),
        (PROTOBUF, b"content-type: application/x-protobuf\r\ncontent-length: 0\r\n", b""),
    ],
)
async def test_success_is_said_once_the_sender_reads_its_answers(
    content_type: bytes, lines: bytes, body: bytes
) -> None:
    counters = Counters()
    exchange = Exchange(head(content_type=content_type), b"x")
    await ask(ingest(Accept(), counters), exchange)

    assert exchange.done == [("drained",), (200, lines, body)]
    assert exchange.keep_alive
    assert counters.requests == {200: 1}


async def test_success_that_a_page_may_read_says_so() -> None:
    way_in = ingest(Accept(), cors_origins=("https://app.example",))
    exchange = Exchange(head((b"origin", b"https://app.example")), b"{}")
    status, lines, body = await ask(way_in, exchange)

    assert (status, body) == (200, b"{}")
    assert b"access-control-allow-origin: https://app.example\r\n" in lines


async def test_request_that_is_cancelled_is_told_that_the_relay_stops() -> None:
    """Only a body that was cut off for others is told so."""
    exchange = Exchange(head(), asyncio.CancelledError())
    status, lines, body = await ask(ingest(Accept()), exchange)

    assert (status, exchange.keep_alive) == (503, False)
    assert b"retry-after: 1\r\n" in lines
    assert b"the relay is stopping; retry" in body


async def test_way_in_that_is_closed_answers_also_what_it_has_judged_before() -> None:
    way_in, known = ingest(accept := Accept()), head()
    await ask(way_in, Exchange(known, b"{}"))
    way_in.close()
    exchange = Exchange(known, b"{}")
    status, _lines, body = await ask(way_in, exchange)

    assert (status, exchange.keep_alive, len(accept.bodies)) == (503, False, 1)
    assert b"the relay is stopping; retry" in body


async def test_busy_relay_keeps_the_connection_of_whom_it_answers_503() -> None:
    exchange = Exchange(head(), b"{}")
    refusal = Refusal("too much; retry", status=503, grpc_code=14)
    status, lines, _body = await ask(ingest(Accept(refusal)), exchange)

    assert (status, exchange.keep_alive) == (503, True)
    assert b"retry-after: 1\r\n" in lines


async def test_nobody_is_answered_who_has_gone() -> None:
    counters = Counters()
    exchange = Exchange(head(), SenderGone())
    await ingest(Accept(), counters).answer(exchange)  # type: ignore[arg-type]

    assert exchange.done == []
    assert counters.requests == {}


async def test_head_that_is_repeated_is_judged_once_until_a_reload() -> None:
    """What the tokens were must not decide who may send after they changed."""
    way_in, known = ingest(Accept()), head()
    await ask(way_in, Exchange(known, b"{}"))
    verdict = known.verdict
    assert (await ask(way_in, Exchange(known, b"{}")))[0] == 200
    assert known.verdict is verdict
    reload(way_in, "a-token")

    assert (await ask(way_in, Exchange(known, b"{}")))[0] == 401
    assert known.verdict is None


@pytest.mark.parametrize(
    ("error", "times"),
    [
        (Refusal("not JSON"), 1),
        (AllItemsRejected("all of them", (), {}), 0),
        (Refusal("not now", status=401, grpc_code=16), 0),
        (Refusal("too much", status=413, grpc_code=8), 0),
    ],
)
async def test_only_bodies_that_cannot_be_read_are_counted_as_such(
    error: Refusal, times: int
) -> None:
    way_in = ingest(Accept(error))
    await ask(way_in, Exchange(head((b"user-agent", b"sdk/1")), b"{}"))
    bodies = way_in.refusals.bodies()

    assert bodies["times"] == times
    if times:
        said = (bodies["last_message"], bodies["last_sender"], bodies["last_user_agent"])
        assert said == ("not JSON", "127.0.0.1", "sdk/1")
    (refused,) = way_in.refusals.last_hour()
    assert (refused["reason"], refused["path"]) == (str(error.status), "/v1/traces")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/logs", b"no destination of this relay takes logs"),
        ("/v1development/profiles", b"this relay takes no profiles"),
        ("/v1/trace", b"append the path"),
    ],
)
async def test_what_no_destination_takes_is_refused_as_not_implemented(
    path: str, words: bytes
) -> None:
    way_in = Ingest(IngestConfig(), Accept(), Counters(), "own", signals=[Signal.TRACES])
    status, _lines, body = await ask(way_in, Exchange(head(path=path), b"{}"))

    assert (status, b'"code":12' in body) == (404, True)
    assert words in body


async def test_question_of_a_browser_is_answered_once_and_is_no_request() -> None:
    counters = Counters()
    way_in = ingest(Accept(), counters, cors_origins=("https://app.example",))
    asked = ((b"origin", b"https://app.example"), (b"access-control-request-method", b"POST"))
    status, lines, body = await ask(way_in, Exchange(head(*asked, method="OPTIONS")))

    assert (status, body, counters.requests) == (204, b"", {})
    assert b"access-control-allow-methods: POST, PUT\r\n" in lines


# --- what cannot be unzipped ----------------------------------------------------------------------


class Keep:
    def __init__(self) -> None:
        self.kept: list[tuple[Any, ...]] = []

    async def __call__(self, *args: Any) -> None:
        self.kept.append(args)


async def test_beginning_of_what_cannot_be_unzipped_is_kept_as_it_came() -> None:
    keep = Keep()
    way_in = ingest(Accept(), keep_unreadable=keep)
    known = head((b"content-encoding", b"gzip"), content_type=PROTOBUF, path="/v1/logs")
    zipped = gzip.compress(b"x" * 100)
    status, _lines, body = await ask(way_in, Exchange(known, zipped[:15], zipped[15:-1]))

    assert status == 400
    ((first, encoding, sender, why, signal),) = keep.kept
    assert (first, encoding, signal) == (zipped[:15], Encoding.PROTOBUF, Signal.LOGS)
    assert sender.address == "127.0.0.1"
    assert why == "the gzip body ends too early (its bytes are kept as they came)"
    assert b"kept" not in body


async def test_test_of_the_connection_that_cannot_be_unzipped_is_kept_as_json() -> None:
    keep = Keep()
    headers = ((b"content-encoding", b"gzip"), (b"x-test-connection", b"true"))
    way_in = ingest(Accept(), keep_unreadable=keep)
    await ask(way_in, Exchange(head(*headers, content_type=None), b"no gzip"))

    assert [(first, encoding) for first, encoding, *_ in keep.kept] == [(b"no gzip", Encoding.JSON)]


async def test_body_that_is_only_too_large_is_not_kept() -> None:
    keep = Keep()
    way_in = ingest(Accept(), keep_unreadable=keep, max_body_bytes=10)
    zipped = gzip.compress(bytes(1000))
    exchange = Exchange(head((b"content-encoding", b"gzip")), zipped)

    assert (await ask(way_in, exchange))[0] == 413
    assert keep.kept == []


# --- what is in memory ----------------------------------------------------------------------------


async def test_body_is_let_go_as_soon_as_it_was_accepted() -> None:
    """A large one would be in memory twice for as long as the disk takes."""
    freed: list[bool] = []

    class Large(bytes):
        def __del__(self) -> None:
            freed.append(True)

    async def accept(
        body: bytes, _encoding: Encoding, _sender: Sender, _signal: Signal
    ) -> SenderResponse:
        del body
        await asyncio.sleep(0)
        assert freed == [True]
        return SUCCESS

    exchange = Exchange(head())
    exchange.at_once = Large(b"{}")
    assert (await ask(ingest(accept), exchange))[0] == 200


class Turns:
    """How long others have their turn, by a clock that goes on by a second at each look."""

    def __init__(self) -> None:
        self.now = 0.0
        self.seconds: list[float] = []
        self.look: Callable[[], object] = lambda: None

    def clock(self) -> float:
        self.now += 1.0
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.look()
        await anyio.lowlevel.checkpoint()


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Turns:
    made = Turns()
    time_ = SimpleNamespace(perf_counter=made.clock)
    asyncio_ = SimpleNamespace(sleep=made.sleep, CancelledError=asyncio.CancelledError)
    monkeypatch.setattr(endpoint_module, "time", time_)
    monkeypatch.setattr(endpoint_module, "asyncio", asyncio_)
    return made


async def test_what_is_unzipped_counts_as_in_memory_step_by_step(turns: Turns) -> None:
    accept = Accept()
    way_in = ingest(accept)
    held: list[int] = []
    turns.look = lambda: held.append(way_in.in_flight_bytes)
    zipped = gzip.compress(bytes(600 * KIB))
    accept.goes.clear()
    async with waiting(way_in, Exchange(head((b"content-encoding", b"gzip")), zipped)):
        turns.look()
        accept.goes.set()

    assert held == [len(zipped) + step * KIB for step in (256, 512, 600)]
    assert way_in.in_flight_bytes == 0


async def test_plain_body_in_pieces_counts_once() -> None:
    accept = Accept()
    way_in = ingest(accept)
    accept.goes.clear()
    async with waiting(way_in, Exchange(head(), b"x" * 300, b"y" * 500)):
        assert way_in.in_flight_bytes == 800
        accept.goes.set()
    assert accept.bodies == [b"x" * 300 + b"y" * 500]


async def test_others_have_half_of_the_time_however_many_bodies_are_unzipped(
    turns: Turns,
) -> None:
    way_in = ingest(Accept(), max_in_flight_bytes=64 * ROOM)
    zipped = gzip.compress(bytes(900 * KIB))
    known = head((b"content-encoding", b"gzip"))
    await ask(way_in, Exchange(known, zipped))
    assert turns.seconds == [1.0, 1.0, 1.0]

    turns.seconds.clear()
    async with waiting(way_in, *(Exchange(known, zipped) for _ in range(3))):
        pass
    assert turns.seconds[:3] == [1.0, 2.0, 3.0]  # the first began alone
    assert turns.seconds[3:-3] == [3.0] * 3
    assert len(turns.seconds) == 9

    turns.seconds.clear()
    await ask(way_in, Exchange(known, zipped))
    assert turns.seconds == [1.0, 1.0, 1.0]  # each is forgotten when it is done


@pytest.mark.parametrize(
    ("small_bytes", "status"), [(UNLISTED_BYTES, 200), (UNLISTED_BYTES + 1, 503)]
)
async def test_small_body_that_came_whole_contests_nobodys_room(
    small_bytes: int, status: int
) -> None:
    """It will be gone in a moment; of a larger one the other sender has to leave half."""
    accept = Accept()
    way_in = ingest(accept)
    accept.goes.clear()
    small = Exchange(head(address="10.0.0.1"), bytes(small_bytes))
    large = Exchange(head(address="10.0.0.2"), bytes(700 * KIB))
    async with waiting(way_in, small, large):
        accept.goes.set()
    assert (small.answer[0], large.answer[0]) == (200, status)
    assert way_in.in_flight_bytes == 0


async def test_small_body_contests_nobodys_room_up_to_half_of_all_that_there_is() -> None:
    accept = Accept()
    way_in = ingest(accept)
    accept.goes.clear()
    first = Exchange(head(address="10.0.0.1"), bytes(ROOM // 2 - UNLISTED_BYTES))
    small = Exchange(head(address="10.0.0.2"), bytes(UNLISTED_BYTES))
    more = Exchange(head(address="10.0.0.1"), bytes(UNLISTED_BYTES + 1))
    async with waiting(way_in, first, small, more):
        assert way_in.in_flight_bytes == ROOM // 2 + UNLISTED_BYTES + 1
        accept.goes.set()
    assert [each.answer[0] for each in (first, small, more)] == [200] * 3


async def test_body_that_does_not_go_on_makes_room_for_one_that_is_whole() -> None:
    way_in = ingest(Accept())
    slow = Exchange(head(address="10.0.0.1"), bytes(100 * KIB), stalls=True)
    async with waiting(way_in, slow):
        large = Exchange(head(address="10.0.0.2"), bytes(1000 * KIB))
        assert (await ask(way_in, large))[0] == 200
        await eventually(lambda: bool(slow.done))
    assert slow.done[0] == ("cancelled",)
    assert slow.answer[0] == 503
    assert b"cut off" in slow.answer[2]
    assert way_in.in_flight_bytes == 0
