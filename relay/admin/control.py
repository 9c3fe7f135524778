"""Routes of the admin API that change the running daemon.

::

    POST   /api/reload?start=NAME:end            take up the configuration as it is now; a new
                                                 destination begins there: beginning, end, or
                                                 nanoseconds since 1970
    GET    /api/destinations/NAME                what it is owed, also when it is gone from there
    DELETE /api/destinations/NAME?waiting=keep   it is gone from there: what becomes of what waits
           &signal=logs                          that signal of it is
    POST   /api/destinations/NAME/pause | resume
    POST   /api/destinations/NAME/test?span=true the connection test, with the daemon's own secrets;
               &stream=true                      each step as it happens

Only a destination that stands in the configuration can be tested here, as it is written now: with
an endpoint of the caller's choice the token of this API would send any secret that the daemon may
read anywhere.

404: no such destination. 409: refused, with the reason; nothing was changed.
"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from relay.admin.api import MOST, Api, BadQuery, digits, flag, signal_of
from relay.admin.stream import streamed, tell_step
from relay.reload import Control, KnownDestination, TakenUp
from relay.traces.replay import Start

STARTS: Mapping[str, Start] = {"beginning": "beginning", "end": "end"}
WAITING = ("keep", "drop")


def routes(control: Control) -> list[Api]:
    """The routes over `control`."""

    async def reload(request: Request) -> TakenUp:
        starts: dict[str, Start] = {}
        for entry in request.query_params.getlist("start"):
            name, _, text = entry.partition(":")
            start = start_of(text)
            if start is None or not name:
                raise BadQuery("start must be NAME:beginning, NAME:end or NAME:NANOSECONDS")
            starts[name] = start
        return await control.reload(starts)

    async def show(request: Request) -> KnownDestination:
        return control.destination(request.path_params["name"])

    async def remove(request: Request) -> dict[str, Any]:
        waiting = request.query_params.get("waiting", "")
        if waiting not in WAITING:
            raise BadQuery("say waiting=keep or waiting=drop")
        found = await control.remove(
            request.path_params["name"],
            drop=waiting == "drop",
            signal=signal_of(request.query_params),
        )
        return {**asdict(found), "waiting": "dropped" if waiting == "drop" else "kept"}

    async def pause(request: Request) -> KnownDestination:
        return await control.set_paused(request.path_params["name"], is_paused=True)

    async def resume(request: Request) -> KnownDestination:
        return await control.set_paused(request.path_params["name"], is_paused=False)

    async def test(request: Request) -> Response | dict[str, Any]:
        name, query = request.path_params["name"], request.query_params
        run = partial(control.test, name, send_span=flag(query, "span"))
        if not flag(query, "stream"):
            return await run()
        control.destination(name)  # else 404, while there still is a status to say so
        return streamed(lambda sink: run(on_step=partial(tell_step, sink)))

    one = "/api/destinations/{name}"
    return [
        ("POST", "/api/reload", reload),
        ("GET", one, show),
        ("DELETE", one, remove),
        ("POST", f"{one}/pause", pause),
        ("POST", f"{one}/resume", resume),
        ("POST", f"{one}/test", test),
    ]


def start_of(text: str) -> Start | None:
    """Where a new destination begins, as it stands in the query; None for what is none."""
    return STARTS.get(text, nanoseconds(text))


def nanoseconds(text: str) -> int | None:
    """A time as a number of nanoseconds since 1970; None for what is none."""
    found = digits(text)
    return None if found is None else min(found, MOST)
