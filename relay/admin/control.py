"""Routes of the admin API that change the running daemon.

::

    POST   /api/reload?start=NAME:end            take up the configuration as it is now; a new
                                                 destination begins there: beginning, end, or
                                                 nanoseconds since 1970
    GET    /api/destinations/NAME                what it is owed, also when it is gone from there
    DELETE /api/destinations/NAME?waiting=keep   it is gone from there: what becomes of what waits
    POST   /api/destinations/NAME/pause | resume
    POST   /api/destinations/NAME/test?span=true the connection test, with the daemon's own secrets

Only a configured destination can be tested here: with an endpoint of the caller's choice the token
of this API would send any secret that the daemon may read anywhere.

404: no such destination. 409: refused, with the reason; nothing was changed.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from relay.admin.answers import document, failure
from relay.model.errors import ConfigError, ControlRefused, UnknownDestination
from relay.reload import Control
from relay.traces.replay import Start

STARTS: Mapping[str, Start] = {"beginning": "beginning", "end": "end"}
WAITING = ("keep", "drop")
MOST_NS: Final = 2**63 - 1

Endpoint = Callable[[Request], Awaitable[Response]]


def routes(control: Control, authorized: Callable[[Endpoint], Endpoint]) -> list[Route]:
    """The routes over `control`, each behind `authorized`."""

    async def reload(request: Request) -> Response:
        starts: dict[str, Start] = {}
        for entry in request.query_params.getlist("start"):
            name, _, text = entry.partition(":")
            start = start_of(text)
            if start is None or not name:
                return failure(400, "start must be NAME:beginning, NAME:end or NAME:NANOSECONDS")
            starts[name] = start
        return document(await control.reload(starts))

    async def destination(request: Request) -> Response:
        return document(control.destination(request.path_params["name"]))

    async def remove(request: Request) -> Response:
        waiting = request.query_params.get("waiting", "")
        if waiting not in WAITING:
            return failure(400, "say waiting=keep or waiting=drop")
        name = request.path_params["name"]
        found = await control.remove(name, drop=waiting == "drop")
        what = "dropped" if waiting == "drop" else "kept"
        return document({**asdict(found), "waiting": what})

    async def pause(request: Request) -> Response:
        return document(await control.set_paused(request.path_params["name"], is_paused=True))

    async def resume(request: Request) -> Response:
        return document(await control.set_paused(request.path_params["name"], is_paused=False))

    async def test(request: Request) -> Response:
        send_span = request.query_params.get("span", "false")
        if send_span not in ("true", "false"):
            return failure(400, "span must be true or false")
        name = request.path_params["name"]
        return document(await control.test(name, send_span=send_span == "true"))

    one = "/api/destinations/{name}"
    return [
        Route("/api/reload", authorized(reload), methods=["POST"]),
        Route(one, authorized(destination), methods=["GET"]),
        Route(one, authorized(remove), methods=["DELETE"]),
        Route(f"{one}/pause", authorized(pause), methods=["POST"]),
        Route(f"{one}/resume", authorized(resume), methods=["POST"]),
        Route(f"{one}/test", authorized(test), methods=["POST"]),
    ]


def start_of(text: str) -> Start | None:
    """Where a new destination begins, as it stands in the query; None for what is none."""
    return STARTS.get(text, nanoseconds(text))


def nanoseconds(text: str) -> int | None:
    """A time as a number of nanoseconds since 1970; None for what is none."""
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(MOST_NS)):
        return None
    return min(int(text), MOST_NS)


async def unknown(_request: Request, error: Exception) -> Response:
    """The answer to UnknownDestination."""
    return failure(404, str(error))


async def refused(_request: Request, error: Exception) -> Response:
    """The answer to a refusal: the configuration's faults name keys and files, never values."""
    return failure(409, str(error))


EXCEPTION_HANDLERS: Mapping[type[Exception], Callable[[Request, Exception], Any]] = {
    UnknownDestination: unknown,
    ControlRefused: refused,
    ConfigError: refused,
}
