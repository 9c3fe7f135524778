"""The loop of one destination, with a backlog and an upstream in memory and a clock that stands."""

import contextlib
import dataclasses
import gc
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import structlog.testing

from relay.config import DestinationConfig
from relay.deliver import batches
from relay.deliver.batches import Batch
from relay.deliver.courier import Courier
from relay.model.errors import SecretUnset
from relay.model.records import DestinationState, Encoding, StoredRow, Taken
from relay.upstream.outcomes import Blocked, Delivered, Outcome, Wait
from tests.unit.deliver.conftest import note_closed

pytestmark = pytest.mark.anyio

Settings = Callable[..., DestinationConfig]
Row = Callable[..., StoredRow]
SPAN = b'{"scopeSpans":[{"spans":[{"name":"%b"}]}]}'
START_NS = 1_700_000_000_000_000_000


class ScriptedUpstream:
    """Answers with the next step; the last one stays. An Event as a step is waited for."""

    def __init__(self, *script: Outcome | Exception | anyio.Event) -> None:
        self.script = list(script) or [Delivered(200)]
        self.sent: list[Batch] = []
        self.headers: list[dict[str, str]] = []
        self.settings: list[DestinationConfig] = []
        self.is_closed = False
        self.renewals = 0

    def update(self, settings: DestinationConfig) -> None:
        self.settings.append(settings)

    async def send(self, batch: Batch, headers: Mapping[str, str]) -> Outcome:
        self.sent.append(batch)
        self.headers.append(dict(headers))
        step = self.script[0] if len(self.script) == 1 else self.script.pop(0)
        if isinstance(step, anyio.Event):
            await step.wait()
            return Delivered(200)
        if isinstance(step, Exception):
            raise step
        return step

    def renew(self) -> None:
        self.renewals += 1

    async def aclose(self) -> None:
        self.is_closed = True


class Clock:
    """Time moves only by `advance`, which also ends the sleep under way."""

    def __init__(self) -> None:
        self.now_ns = START_NS
        self.sleeps: list[float] = []
        self._alarm = anyio.Event()

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        await self._alarm.wait()

    async def advance(self) -> None:
        self.now_ns += int(self.sleeps[-1] * 1e9)
        self._alarm.set()
        self._alarm = anyio.Event()
        await anyio.wait_all_tasks_blocked()


@dataclasses.dataclass
class World:
    """A courier under way and everything around it."""

    courier: Courier
    backlog: Any
    upstream: ScriptedUpstream
    clock: Clock
    headers: dict[str, str]

    @property
    def state(self) -> DestinationState:
        return self.courier.status.state

    async def settle_down(self) -> None:
        await anyio.wait_all_tasks_blocked()


@contextlib.asynccontextmanager
async def world(
    settings: DestinationConfig,
    backlog: Any,
    *script: Outcome | Exception | anyio.Event,
    pace_seconds: float = 0.0,
) -> AsyncIterator[World]:
    upstream, clock = ScriptedUpstream(*script), Clock()
    headers = {"Authorization": "Bearer old"}
    courier = Courier(
        settings,
        backlog,
        upstream,
        lambda _: dict(headers),
        now_ns=lambda: clock.now_ns,
        sleep=clock.sleep,
        random=lambda: 0.5,
        pace_seconds=pace_seconds,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(courier.run)
        await anyio.wait_all_tasks_blocked()
        yield World(courier, backlog, upstream, clock, headers)
        tasks.cancel_scope.cancel()


async def test_courier_delivers_and_idles_until_there_is_more(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1, spans=3))
    async with world(settings(), backlog) as at:
        assert (at.state, backlog.settled, backlog.waiting) == ("idle", [1], True)

        backlog.add(row(2, spans=4))
        await at.settle_down()

        assert backlog.settled == [1, 2]
        status = at.courier.status
        assert (status.delivered_items, status.requests, status.last_status) == (7, 2, 200)
        assert status.last_success_ns == START_NS
        assert status.in_flight_items == 0
        assert status.header_names == ("Authorization",)


async def test_courier_sends_with_the_next_request_what_gathered_during_the_last(
    settings: Settings, row: Row, backlog: Any
) -> None:
    gate = anyio.Event()
    backlog.add(row(1))
    async with world(settings(), backlog, gate, Delivered(200)) as at:
        backlog.add(row(2), row(3), row(4))
        assert at.state == "delivering"
        assert at.courier.status.in_flight_items == 1
        gate.set()
        await at.settle_down()

        assert [batch.rows for batch in at.upstream.sent] == [1, 3]
        assert backlog.settled == [1, 2, 3, 4]


async def test_courier_is_blocked_by_an_unset_secret_before_there_is_anything_to_send(
    settings: Settings, row: Row, backlog: Any
) -> None:
    secrets: list[str] = []

    def resolve(_: DestinationConfig) -> dict[str, str]:
        if not secrets:
            raise SecretUnset("secret ${env:TOKEN} is not set")
        return {"Authorization": secrets[0]}

    upstream, clock = ScriptedUpstream(), Clock()
    courier = Courier(settings(), backlog, upstream, resolve, sleep=clock.sleep, pace_seconds=0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(courier.run)
        await anyio.wait_all_tasks_blocked()
        assert courier.status.state == "blocked"
        assert "TOKEN" in courier.status.reason
        secrets.append("Bearer now")
        courier.wake()
        await anyio.wait_all_tasks_blocked()
        assert courier.status.state == "idle"
        assert courier.status.reason == ""
        tasks.cancel_scope.cancel()


async def test_courier_starts_small_batches_so_often_only_and_the_first_at_once(
    settings: Settings, row: Row, backlog: Any
) -> None:
    async with world(settings(), backlog, pace_seconds=60) as at:
        backlog.add(row(1))
        await at.settle_down()
        backlog.add(row(2), row(3))
        await at.settle_down()
        assert [batch.rows for batch in at.upstream.sent] == [1]
        await at.clock.advance()

        assert [batch.rows for batch in at.upstream.sent] == [1, 2]


async def test_courier_does_not_pace_large_batches(
    settings: Settings, row: Row, backlog: Any
) -> None:
    large = b'{"x":"' + b"a" * 300_000 + b'"}'
    async with world(settings(max_batch_bytes=1), backlog, pace_seconds=60) as at:
        backlog.add(row(1, large), row(2, large))
        await at.settle_down()

        assert len(at.upstream.sent) == 2
        assert at.clock.sleeps == []


async def test_courier_takes_rows_of_one_encoding_only_when_it_sends_as_they_came(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1), row(2, b"", encoding=Encoding.PROTOBUF), row(3))
    async with world(settings(encoding="auto"), backlog) as at:
        assert [batch.encoding for batch in at.upstream.sent] == [
            Encoding.JSON,
            Encoding.PROTOBUF,
            Encoding.JSON,
        ]
        at.courier.update(settings(encoding="json"))
        backlog.add(row(4), row(5, b"", encoding=Encoding.PROTOBUF), row(6))
        await at.settle_down()

        assert at.upstream.sent[-1].rows == 3


async def test_courier_keeps_to_the_batch_limits(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(*(row(n, b"x" * 10, spans=2) for n in range(1, 6)))
    async with world(settings(max_batch_items=4, max_batch_bytes=1000), backlog) as at:
        assert [batch.items for batch in at.upstream.sent] == [4, 4, 2]


async def test_courier_backs_off_with_doubling_pauses_and_keeps_the_rows_owed(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1))
    async with world(settings(), backlog, Wait("away")) as at:
        for _ in range(7):
            assert (at.state, backlog.in_flight, len(backlog.owed)) == ("waiting", 0, 1)
            await at.clock.advance()

        assert at.clock.sleeps == [0.5, 1, 2, 4, 8, 15, 15, 15]
        assert at.courier.status.consecutive_failures == 8
        assert at.courier.status.reason == "away"
        assert at.courier.status.next_try_ns == at.clock.now_ns + 15_000_000_000
        assert not backlog.settled


def batches_in_memory() -> list[object]:
    gc.collect()
    return [
        it
        for it in gc.get_objects()
        if isinstance(it, Batch) or (isinstance(it, Taken) and bool(it.rows))
    ]


@pytest.mark.parametrize("failure", [Wait("away"), Blocked("wrong token", 401)])
async def test_courier_holds_nothing_of_what_failed_until_the_next_try(
    settings: Settings, row: Row, backlog: Any, failure: Outcome
) -> None:
    """It is up to 8 MiB, of every destination that is away."""
    backlog.add(row(1))
    before = batches_in_memory()  # what other tests left
    async with world(settings(), backlog, failure) as at:
        at.upstream.sent.clear()
        held = [it for it in batches_in_memory() if all(it is not other for other in before)]

        assert (at.state in ("waiting", "blocked"), held) == (True, [])


async def test_courier_honours_retry_after_and_recovers_by_itself(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1))
    busy = Wait("busy", retry_after_seconds=17.0, status=429)
    async with world(settings(), backlog, busy, busy, Delivered(200)) as at:
        assert at.courier.status.last_status == 429
        await at.clock.advance()
        await at.clock.advance()

        assert at.clock.sleeps == [17.0, 17.0]
        assert (at.state, backlog.settled) == ("idle", [1])
        status = at.courier.status
        assert (status.reason, status.consecutive_failures, status.next_try_ns) == ("", 0, 0)


async def test_courier_probes_when_blocked_at_growing_pauses(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1))
    async with world(settings(), backlog, Blocked("wrong token", 401)) as at:
        for _ in range(5):
            assert (at.state, at.courier.status.reason) == ("blocked", "wrong token")
            await at.clock.advance()

        assert at.clock.sleeps == [5, 10, 20, 40, 60, 60]
        assert not backlog.settled


async def test_courier_counts_pauses_of_each_kind_apart(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1))
    away, wrong = Wait("away"), Blocked("wrong")
    async with world(settings(), backlog, away, away, wrong, wrong, away) as at:
        for _ in range(4):
            await at.clock.advance()

        assert at.clock.sleeps == [0.5, 1, 5, 10, 0.5]


async def test_courier_takes_more_rows_into_the_batch_that_failed(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1))
    async with world(settings(), backlog, Wait("away"), Delivered(200)) as at:
        backlog.add(row(2))
        await at.clock.advance()

        assert [batch.rows for batch in at.upstream.sent] == [1, 2]
        assert backlog.settled == [1, 2]


async def test_courier_wake_probes_at_once_with_secrets_read_anew(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1))
    async with world(settings(), backlog, Blocked("wrong token", 401), Delivered(200)) as at:
        at.headers["Authorization"] = "Bearer new"
        at.courier.wake()
        await at.settle_down()

        assert backlog.settled == [1]
        assert [h["Authorization"] for h in at.upstream.headers] == ["Bearer old", "Bearer new"]
        assert len(at.clock.sleeps) == 1


async def test_courier_probe_uses_secrets_read_anew(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1))
    async with world(settings(), backlog, Blocked("wrong token", 401), Delivered(200)) as at:
        at.headers["Authorization"] = "Bearer new"
        await at.clock.advance()

        assert [h["Authorization"] for h in at.upstream.headers] == ["Bearer old", "Bearer new"]


async def test_courier_status_shows_the_endpoint_without_its_secrets(
    settings: Settings, backlog: Any
) -> None:
    courier = Courier(
        settings("https://u:p@h/t?key=s"), backlog, ScriptedUpstream(), lambda _: {}, pace_seconds=0
    )

    assert courier.status.endpoint == "https://***@h/t?***"


@pytest.mark.parametrize("outcome", [Wait("away"), Blocked("bad token", 401), Blocked("odd", 400)])
async def test_courier_has_the_upstream_connect_anew_before_each_probe_and_on_resume(
    settings: Settings, row: Row, backlog: Any, outcome: Outcome
) -> None:
    backlog.add(row(1))
    async with world(settings(encoding="json"), backlog, outcome) as at:
        tries = len(at.upstream.sent)
        assert at.upstream.renewals >= tries
        await at.clock.advance()
        assert len(at.upstream.sent) > tries
        assert at.upstream.renewals >= len(at.upstream.sent)
        renewals = at.upstream.renewals
        at.courier.resume()
        assert at.upstream.renewals == renewals + 1
        at.courier.update(settings())
        assert at.upstream.renewals == renewals + 2


async def test_courier_wake_during_a_request_is_not_lost(
    settings: Settings, row: Row, backlog: Any
) -> None:
    """A reload comes while the old token is on its way to be refused."""
    gate = anyio.Event()

    class Refusing(ScriptedUpstream):
        async def send(self, batch: Batch, headers: Mapping[str, str]) -> Outcome:
            self.headers.append(dict(headers))
            if len(self.headers) > 1:
                return Delivered(200)
            await gate.wait()
            return Blocked("wrong token", 401)

    upstream, clock = Refusing(), Clock()
    backlog.add(row(1))
    headers: dict[str, str] = {}
    courier = Courier(
        settings(), backlog, upstream, lambda _: dict(headers), sleep=clock.sleep, pace_seconds=0
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(courier.run)
        await anyio.wait_all_tasks_blocked()
        headers["a"] = "new"
        courier.update(settings())
        gate.set()
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()

    assert upstream.headers == [{}, {"a": "new"}]
    assert not clock.sleeps


async def test_courier_reads_secrets_once_while_all_is_well(
    settings: Settings, row: Row, backlog: Any
) -> None:
    reads: list[int] = []

    def resolve(_: DestinationConfig) -> dict[str, str]:
        reads.append(1)
        return {}

    courier = Courier(settings(), backlog, ScriptedUpstream(), resolve, pace_seconds=0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(courier.run)
        for number in range(1, 4):
            backlog.add(row(number))
            await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()

    assert backlog.settled == [1, 2, 3]
    assert len(reads) == 1


async def test_courier_is_blocked_by_an_unset_secret_until_it_is_set(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1))
    secrets: list[str] = []

    def resolve(_: DestinationConfig) -> dict[str, str]:
        if not secrets:
            raise SecretUnset("secret ${file:token} is not set")
        return {"Authorization": secrets[0]}

    upstream, clock = ScriptedUpstream(), Clock()
    courier = Courier(settings(), backlog, upstream, resolve, sleep=clock.sleep, pace_seconds=0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(courier.run)
        await anyio.wait_all_tasks_blocked()
        assert courier.status.state == "blocked"
        assert courier.status.reason.startswith("axiom: secret ${file:token} is not set")
        assert not upstream.sent

        secrets.append("Bearer x")
        await clock.advance()
        tasks.cancel_scope.cancel()

    assert backlog.settled == [1]
    assert upstream.headers == [{"Authorization": "Bearer x"}]


async def test_courier_update_takes_effect_with_the_next_request(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1))
    async with world(settings(), backlog, Wait("away"), Delivered(200)) as at:
        changed = settings("https://u:hunter2@other.example/?k=hunter2", compression="none")
        at.headers.clear()
        at.headers["x"] = "1"
        at.courier.update(changed)
        await at.settle_down()

        assert at.upstream.settings == [changed]
        assert at.upstream.headers[-1] == {"x": "1"}
        assert at.courier.status.endpoint == "https://***@other.example/?***"


async def test_courier_sends_what_it_was_taking_during_an_update_under_the_new_settings(
    settings: Settings, row: Row, backlog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, asked, take = anyio.Event(), anyio.Event(), backlog.take

    async def take_slowly(**limits: Any) -> Any:
        asked.set()
        await gate.wait()
        return await take(**limits)

    monkeypatch.setattr(backlog, "take", take_slowly)
    backlog.add(row(1), row(2))
    async with world(settings(), backlog) as at:
        await asked.wait()
        changed = settings("http://127.0.0.1:2/v1/traces", compression="none")
        at.headers.clear()
        at.headers["Authorization"] = "Bearer new"
        at.courier.update(changed)
        gate.set()
        await at.settle_down()

        assert at.upstream.settings == [changed]
        assert {frozenset(each.items()) for each in at.upstream.headers} == {
            frozenset({("Authorization", "Bearer new")})
        }
        assert (backlog.settled, backlog.in_flight) == ([1, 2], 0)


async def test_courier_sends_no_header_of_before_to_the_endpoint_of_an_update(
    settings: Settings, row: Row, backlog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, build = anyio.Event(), batches.build

    async def build_slowly(*args: Any, **keys: Any) -> Batch:
        await gate.wait()
        return await build(*args, **keys)

    monkeypatch.setattr(batches, "build", build_slowly)
    backlog.add(row(1))
    with structlog.testing.capture_logs() as logs:
        async with world(settings(), backlog) as at:
            changed = settings("http://127.0.0.1:2/v1/traces")
            at.headers.clear()
            at.headers["Authorization"] = "Bearer new"
            at.courier.update(changed)
            gate.set()
            await at.settle_down()

            assert at.upstream.headers == [{"Authorization": "Bearer new"}]
            assert (backlog.settled, backlog.in_flight) == ([1], 0)
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == []


async def test_courier_keeps_nothing_of_requests_that_are_over(
    settings: Settings, row: Row, backlog: Any
) -> None:
    async with world(settings(), backlog) as at:
        gc.collect()
        before = sum(isinstance(it, anyio.CancelScope) for it in gc.get_objects())
        for number in range(20):
            backlog.add(row(number))
            await at.settle_down()
        gc.collect()
        after = sum(isinstance(it, anyio.CancelScope) for it in gc.get_objects())

    assert len(backlog.settled) == 20
    assert after - before < 5


async def test_courier_pause_finishes_the_request_in_flight_and_resume_goes_on(
    settings: Settings, row: Row, backlog: Any
) -> None:
    gate = anyio.Event()
    backlog.add(row(1))
    async with world(settings(), backlog, gate, Delivered(200)) as at:
        at.courier.pause()
        backlog.add(row(2))
        gate.set()
        await at.settle_down()
        assert (at.state, backlog.settled) == ("paused", [1])
        at.courier.wake()
        await at.settle_down()
        assert backlog.settled == [1]

        at.courier.resume()
        await at.settle_down()
        assert (at.state, backlog.settled) == ("idle", [1, 2])


async def test_courier_pause_in_the_settings_wins_over_resume(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1))
    async with world(settings(paused=True), backlog) as at:
        at.courier.resume()
        await at.settle_down()
        assert (at.state, len(at.upstream.sent)) == ("paused", 0)

        at.courier.update(settings())
        await at.settle_down()
        assert backlog.settled == [1]


async def test_courier_tries_nothing_while_its_settings_block_it(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1))
    async with world(settings(reload_reason="its endpoint is our own"), backlog) as at:
        assert (at.state, at.courier.status.reason) == ("blocked", "its endpoint is our own")
        assert not at.upstream.sent

        at.courier.update(settings())
        await at.settle_down()
        assert backlog.settled == [1]


async def test_courier_sets_aside_what_a_partial_success_refused(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(7, b"one", spans=3), row(8, b"two", spans=2))
    async with world(settings(), backlog, Delivered(200, 2, "name too long")) as at:
        (letter,) = backlog.dead
        assert backlog.settled == [7, 8]
        assert (letter.destination, letter.reason) == ("axiom", "upstream_partial")
        assert letter.words == "2 of 5 refused, not known which: name too long"
        assert (letter.items, letter.affected, letter.status) == (5, 2, 200)
        assert (letter.body, letter.encoding) == (b"one,two", Encoding.JSON)
        assert (letter.row, letter.received_ns) == (7, 1007)
        assert at.courier.status.delivered_items == 3
        assert at.courier.status.refused_items == 2


async def test_courier_believes_no_more_refused_spans_than_it_sent(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1, spans=2))
    async with world(settings(), backlog, Delivered(200, 99)) as at:
        assert backlog.dead[0].words == "2 of 2 refused, not known which"
        assert at.courier.status.delivered_items == 0


async def test_courier_keeps_a_warning_of_the_upstream_once(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1))
    async with world(settings(), backlog, Delivered(200, 0, "deprecated")) as at:
        backlog.add(row(2))
        await at.settle_down()

        assert backlog.settled == [1, 2]
        assert not backlog.dead
        assert at.courier.status.warnings == ["deprecated"]


async def test_courier_stop_lets_the_request_in_flight_finish(
    settings: Settings, row: Row, backlog: Any
) -> None:
    gate = anyio.Event()
    backlog.add(row(1))
    async with world(settings(), backlog, gate) as at:
        backlog.add(row(2))
        async with anyio.create_task_group() as stopping:
            stopping.start_soon(at.courier.stop, 5.0)
            await anyio.wait_all_tasks_blocked()
            assert not at.upstream.is_closed
            gate.set()

        assert backlog.settled == [1]
        assert at.upstream.is_closed


async def test_courier_stop_gives_back_what_hangs_and_does_not_count_it_as_failed(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1))
    async with world(settings(), backlog, anyio.Event()) as at:
        with anyio.fail_after(5):
            await at.courier.stop(0.01)

        assert (backlog.in_flight, len(backlog.owed), backlog.given_back) == (0, 1, 1)
        assert at.courier.status.consecutive_failures == 0
        assert at.upstream.is_closed


@pytest.mark.parametrize("step", [Wait("away"), Blocked("no"), Delivered(200)])
async def test_courier_stop_ends_every_rest_at_once(
    settings: Settings, row: Row, backlog: Any, step: Outcome
) -> None:
    backlog.add(row(1))
    async with world(settings(), backlog, step) as at:
        with anyio.fail_after(5):
            await at.courier.stop(60)
            await at.courier.stop(60)

        assert backlog.in_flight == 0


async def test_courier_stop_before_its_task_began_keeps_it_from_sending(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1))
    courier = Courier(settings(), backlog, ScriptedUpstream(), lambda _: {}, pace_seconds=0)
    await courier.stop()
    with anyio.fail_after(5):
        await courier.run()

    assert not backlog.settled


async def test_courier_gives_back_and_closes_its_connection_when_it_is_cancelled(
    settings: Settings, row: Row, backlog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backlog.add(row(1))
    async with world(settings(), backlog, anyio.Event()) as at:
        closed = note_closed(monkeypatch, at.upstream)
        assert backlog.in_flight == 1

    assert (backlog.in_flight, len(backlog.owed)) == (0, 1)
    assert closed.is_set()


async def test_courier_takes_an_exception_of_ours_for_an_outcome(
    settings: Settings, row: Row, backlog: Any
) -> None:
    """Any number of times: it stays owed, is probed, and delivered once it is mended."""
    backlog.add(row(1))
    script = [ValueError("hunter2")] * 3
    with structlog.testing.capture_logs() as logs:
        async with world(settings(), backlog, *script, Delivered(200)) as at:
            for _ in range(3):
                assert at.state == "blocked"
                assert "ValueError, see the log" in at.courier.status.reason
                assert "hunter2" not in at.courier.status.reason
                await at.clock.advance()

            assert backlog.settled == [1]
    assert [entry["event"] for entry in logs if entry["event"] == "batch_failed"] == (
        ["batch_failed"] * 3
    )


async def test_courier_sets_aside_a_row_that_cannot_be_transcoded(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1, b'{"nonsense":1}'))
    async with world(settings(encoding="protobuf"), backlog) as at:
        assert at.state == "idle"
        assert (len(at.upstream.sent), len(backlog.owed), backlog.settled) == (0, 0, [1])
        (letter,) = backlog.dead
        assert (letter.reason, letter.status, letter.body) == (
            "relay_error",
            0,
            b'{"nonsense":1}',
        )
        assert letter.words.startswith("TranscodeError at relay/")


@pytest.mark.parametrize("second", [Delivered(200), Delivered(200, 1, "one was too long")])
async def test_courier_that_dies_twice_at_one_place_stops_until_it_is_woken(
    settings: Settings, row: Row, backlog: Any, second: Outcome
) -> None:
    """Whichever way it came there."""
    backlog.add(row(1))
    backlog.settle_errors = [RuntimeError("a"), RuntimeError("b")]
    async with world(settings(), backlog, Delivered(200), second) as at:
        assert (at.state, at.courier.status.consecutive_failures) == ("blocked", 1)
        assert at.clock.sleeps == [5]
        await at.clock.advance()
        assert at.courier.status.consecutive_failures == 2
        assert "twice: stopped until a reload or resume" in at.courier.status.reason
        assert (at.clock.sleeps, backlog.in_flight, len(backlog.owed)) == ([5], 0, 1)

        at.courier.resume()
        await at.settle_down()
        assert (at.state, backlog.settled) == ("idle", [1])


async def test_courier_dies_twice_at_one_place_whatever_was_left_out_between(
    settings: Settings, row: Row, backlog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing was sent, nothing has got past that place."""
    settle = backlog.settle_with

    def settle_what_is_left_out(taken: Taken, *dead: Any, **told: Any) -> None:
        if taken.rows[0].row == 2:
            raise RuntimeError("what cannot be written down")
        settle(taken, *dead, **told)

    monkeypatch.setattr(backlog, "settle_with", settle_what_is_left_out)
    backlog.add(row(2, SPAN % b"good"))
    terms = settings(match='name != "health"', max_batch_items=1)
    async with world(terms, backlog, Delivered(200), Delivered(200)) as at:
        assert at.state == "blocked"
        backlog.owed.insert(0, row(1, SPAN % b"health"))
        await at.clock.advance()

        assert (backlog.settled, len(at.upstream.sent)) == ([1], 2)
        assert "twice: stopped until a reload or resume" in at.courier.status.reason


async def test_courier_survives_a_backlog_that_cannot_be_read(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1))
    backlog.take_errors = [OSError("disk")]
    async with world(settings(), backlog) as at:
        assert at.state == "blocked"
        await at.clock.advance()

        assert backlog.settled == [1]


async def test_courier_logs_transitions_only_and_never_a_header_value(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(row(1))
    away, wrong = Wait("away"), Blocked("wrong token")
    with structlog.testing.capture_logs() as logs:
        script = (away, away, away, wrong, wrong, Delivered(200))
        async with world(settings(), backlog, *script) as at:
            for _ in range(5):
                await at.clock.advance()

    events = [(entry["event"], entry["log_level"], entry.get("reason")) for entry in logs]
    assert events == [
        ("destination_waiting", "warning", "away"),
        ("destination_blocked", "error", "wrong token"),
        ("batch_delivered", "debug", None),
        ("destination_recovered", "info", None),
    ]
    assert "Bearer" not in str(logs)


async def test_courier_that_hangs_holds_up_no_other(
    settings: Settings, row: Row, backlog: Any, other_backlog: Any
) -> None:
    backlog.add(row(1))
    async with world(settings(), backlog, anyio.Event()) as hanging:
        async with world(settings(), other_backlog) as well:
            for number in range(1, 50):
                other_backlog.add(row(number))
                await well.settle_down()

            assert other_backlog.settled == list(range(1, 50))
            assert (hanging.state, well.state) == ("delivering", "idle")


async def test_courier_waits_while_memory_is_short_and_sends_less_after_it(
    settings: Settings, row: Row, backlog: Any
) -> None:
    """A shortage passes: nothing is to be set aside for it."""
    backlog.add(row(1), row(2), row(3), row(4))
    shortage = [MemoryError() for _ in range(5)]
    async with world(settings(), backlog, *shortage, Delivered(200)) as at:
        for _ in shortage:
            assert (at.state, backlog.dead, len(backlog.owed)) == ("waiting", [], 4)
            assert "short of memory" in at.courier.status.reason
            await at.clock.advance()

        assert [batch.items for batch in at.upstream.sent] == [4, 2, 1, 1, 1, 1, 2, 1]
        assert (at.state, backlog.settled, backlog.dead) == ("idle", [1, 2, 3, 4], [])


async def test_courier_outlives_a_shortage_of_memory_at_the_buffer(
    settings: Settings, row: Row, backlog: Any
) -> None:
    """An exception that comes twice stops a courier until a reload; this one ends by itself."""
    backlog.add(row(1))
    backlog.take_errors = [MemoryError() for _ in range(3)]
    async with world(settings(), backlog) as at:
        for _ in range(3):
            assert at.state == "waiting"
            await at.clock.advance()

        assert (at.state, backlog.settled) == ("idle", [1])
