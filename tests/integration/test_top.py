"""`otlp-relay top` against a real relay, driven by keys."""

import importlib.util
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from mockcollector.server import MockCollector
from relay.cli.client import DaemonClient
from relay.cli.top_app import Top, Words
from relay.config import ListenAddress
from tests.support.builders import request, span
from tests.support.relay_process import Relay

SECONDS = 20.0


async def until(pilot: Pilot[None], holds: Callable[[], bool], what: str) -> None:
    with anyio.move_on_after(SECONDS):
        while not holds():
            await pilot.pause(0.05)
        return
    pytest.fail(f"never {what}")


def cells(app: Top, table: str) -> list[str]:
    found = app.screen_stack[0].query_one(f"#{table}", DataTable)
    return [" ".join(map(str, found.get_row_at(at))) for at in range(found.row_count)]


def words(app: Top) -> str:
    return app.screen.text if isinstance(app.screen, Words) else ""


def driven(relay: Relay, work: Callable[[Top, Pilot[None]], Awaitable[None]]) -> None:
    """Let `work` press keys."""

    async def run() -> None:
        client = DaemonClient(ListenAddress("127.0.0.1", relay.admin_port), relay.state_dir)
        app = Top(client)
        async with app.run_test(size=(140, 40)) as pilot:
            await work(app, pilot)

    anyio.run(run)


def test_senders_destinations_and_happenings_are_shown_and_keys_act(tmp_path: Path) -> None:
    with MockCollector(script="401:bad \x1b[2J key*") as picky:
        with Relay(tmp_path, {"picky": {"endpoint": picky.endpoint}}) as relay:
            relay.post(request(span(), span(traceId="0" * 32)))

            async def work(app: Top, pilot: Pilot[None]) -> None:
                await until(pilot, lambda: "blocked" in str(cells(app, "destinations")), "blocked")
                assert "401" in cells(app, "destinations")[0]
                assert "\x1b" not in cells(app, "destinations")[0]
                await until(pilot, lambda: "shop" in str(cells(app, "senders")), "a sender")
                happened = app.query_one("#happened", Static)
                await until(pilot, lambda: "rejected" in str(happened.content), "rejected")

                await pilot.press("enter")
                await until(pilot, lambda: "endpoint: " in words(app), "open")
                await pilot.press("escape")
                await pilot.press("t")
                await until(pilot, lambda: '"passed": false' in words(app), "tested")
                await pilot.press("escape")
                await pilot.press("l")
                await until(pilot, lambda: "trace_id_zero" in words(app), "a letter")
                await pilot.press("escape")

                await pilot.press("r")
                await until(pilot, lambda: "paused" in str(cells(app, "destinations")), "paused")
                await pilot.press("r")
                await until(pilot, lambda: "paused" not in str(cells(app, "destinations")), "on")

            driven(relay, work)


def test_it_freezes_and_sorts(tmp_path: Path) -> None:
    nobody = "http://127.0.0.1:1/v1/traces"
    destinations = {"b": {"endpoint": nobody}, "a": {"endpoint": nobody}}
    with Relay(tmp_path, destinations) as relay:

        async def work(app: Top, pilot: Pilot[None]) -> None:
            await until(pilot, lambda: len(cells(app, "destinations")) == 2, "both")
            await pilot.press("s")
            assert app.sort == "name"
            await until(
                pilot, lambda: [c[0] for c in cells(app, "destinations")] == ["a", "b"], "sorted"
            )
            await pilot.press("p")
            head = str(app.query_one("#head", Static).content)
            assert "frozen" in head
            await anyio.to_thread.run_sync(relay.post, request(span()))
            await pilot.pause(1.5)
            assert cells(app, "senders") == []
            await pilot.press("p")
            await until(pilot, lambda: cells(app, "senders") != [], "thawed")

        driven(relay, work)


def test_without_the_extra_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    done = Relay(tmp_path).run("top")

    assert done.returncode == 1
    assert "pip install 'otlp-relay[tui]'" in done.stderr
