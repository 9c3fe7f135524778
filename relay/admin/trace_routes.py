"""Routes of the admin API that tell where a trace is, and replay what is kept.

::

    GET  /api/traces?limit=50            the newest distinct traces
    GET  /api/traces/ID?spans=false      where one is; ID as it was sent, or as it is since
    GET  /api/destinations/NAME/replay?…                    what a replay would send; as below
    POST /api/destinations/NAME/replay?since=NANOSECONDS    what was received then or later
    POST /api/destinations/NAME/replay?trace=ID             what is of one trace
         &signal=logs                                       of that signal alone
         &dry_run=true                                      only tell what it would be
         &force=true                                        also delta points, which count twice

404: no such destination, or nothing is known of the trace (then with how far back what is known
reaches). 409: the replay is refused, with the reason; nothing was changed.
"""

from dataclasses import asdict
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from relay.admin.api import Api, BadQuery, digits, document, flag, signal_of
from relay.admin.control import nanoseconds
from relay.admin.trace_document import recent_trace, trace_document
from relay.model.units import iso
from relay.traces.replay import Replay, ReplayedRows
from relay.traces.where import Traces

# An id may be typed as the URL that it stands in.
MOST_CHARACTERS: Final = 4096


def routes(traces: Traces, replay: Replay) -> list[Api]:
    """The routes over `traces` and `replay`."""

    async def recent(request: Request) -> dict[str, Any]:
        limit = digits(request.query_params.get("limit", "50"))
        if limit is None or not 1 <= limit <= 1000:
            raise BadQuery("limit must be a number from 1 to 1000")
        return {"traces": [recent_trace(each) for each in await traces.recent(limit)]}

    async def one(request: Request) -> Response:
        text = request.path_params["trace_id"].strip()[:MOST_CHARACTERS]
        with_spans = flag(request.query_params, "spans", "true")
        if not text:
            raise BadQuery("name a trace id")
        report = await traces.find(text, with_spans=with_spans)
        return document(trace_document(report), 200 if report.is_known else 404)

    async def look(request: Request) -> dict[str, Any]:
        return await replayed(request, is_dry_run=True)

    async def replay_kept(request: Request) -> dict[str, Any]:
        return await replayed(request, is_dry_run=flag(request.query_params, "dry_run"))

    async def replayed(request: Request, *, is_dry_run: bool) -> dict[str, Any]:
        name = request.path_params["name"]
        query = request.query_params
        is_forced, signal = flag(query, "force"), signal_of(query)
        trace = query.get("trace", "").strip()[:MOST_CHARACTERS]
        since_ns = nanoseconds(query.get("since", ""))
        if ("since" in query) == ("trace" in query) or (since_ns is None and not trace):
            raise BadQuery("say since=NANOSECONDS, a time since 1970, or trace=ID")
        if since_ns is not None:
            done = await replay.since(
                name, since_ns, is_dry_run=is_dry_run, is_forced=is_forced, signal=signal
            )
        else:
            done = await replay.trace(
                name, trace, is_dry_run=is_dry_run, is_forced=is_forced, signal=signal
            )
        return replay_document(done)

    return [
        ("GET", "/api/traces", recent),
        ("GET", "/api/traces/{trace_id:path}", one),
        ("GET", "/api/destinations/{name}/replay", look),
        ("POST", "/api/destinations/{name}/replay", replay_kept),
    ]


def replay_document(done: ReplayedRows) -> dict[str, Any]:
    """As JSON says it: times as RFC 3339."""
    found = asdict(done)
    times = {name: iso(found.pop(f"{name}_ns")) for name in ("kept_since", "since")}
    return found | times
