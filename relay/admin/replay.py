"""The route of the admin API that sends kept spans to one destination again.

::

    POST /api/destinations/NAME/replay?since=NANOSECONDS    what was received then or later
    POST /api/destinations/NAME/replay?trace=ID             the spans of one trace
         &dry_run=true                                      only tell what it would be

404: no such destination. 409: refused, with the reason; nothing was changed.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from relay.admin.answers import document, failure
from relay.admin.control import Endpoint, nanoseconds
from relay.admin.trace_routes import MOST_CHARACTERS
from relay.model.units import iso
from relay.traces.replay import Replay, Replayed


def routes(replay: Replay, authorized: Callable[[Endpoint], Endpoint]) -> list[Route]:
    """The route over `replay`, behind `authorized`."""

    async def again(request: Request) -> Response:
        name = request.path_params["name"]
        query = request.query_params
        dry_run = query.get("dry_run", "false")
        if dry_run not in ("true", "false"):
            return failure(400, "dry_run must be true or false")
        is_dry_run = dry_run == "true"
        trace = query.get("trace", "").strip()[:MOST_CHARACTERS]
        since_ns = nanoseconds(query.get("since", ""))
        if ("since" in query) == ("trace" in query) or (since_ns is None and not trace):
            return failure(400, "say since=NANOSECONDS, a time since 1970, or trace=ID")
        if since_ns is not None:
            done = await replay.since(name, since_ns, is_dry_run=is_dry_run)
        else:
            done = await replay.trace(name, trace, is_dry_run=is_dry_run)
        return document(replay_document(done))

    return [Route("/api/destinations/{name}/replay", authorized(again), methods=["POST"])]


def replay_document(done: Replayed) -> dict[str, Any]:
    """As JSON says it: times as RFC 3339."""
    found = asdict(done)
    times = {name: iso(found.pop(f"{name}_ns")) for name in ("kept_since", "since")}
    return found | times
