"""Routes of the admin API that tell where a trace is, and which came last.

::

    GET /api/traces?limit=50            the newest distinct traces
    GET /api/traces/ID?spans=false      where one is; ID as it was sent, or as it is since

404 with how far back what is known reaches, when nothing is known of it.
"""

from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from relay.admin.answers import document, failure
from relay.admin.control import Endpoint
from relay.admin.trace_document import recent_trace, trace_document
from relay.traces.where import Traces

# What is kept of an id that was refused is cut there.
MOST_CHARACTERS: Final = 128


def routes(traces: Traces, authorized: Callable[[Endpoint], Endpoint]) -> list[Route]:
    """The routes over `traces`, each behind `authorized`."""

    async def recent(request: Request) -> Response:
        text = request.query_params.get("limit", "50")
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 1000):
            return failure(400, "limit must be a number from 1 to 1000")
        return document({"traces": [recent_trace(each) for each in await traces.recent(int(text))]})

    async def one(request: Request) -> Response:
        text = request.path_params["trace_id"].strip()[:MOST_CHARACTERS]
        with_spans = request.query_params.get("spans", "true")
        if with_spans not in ("true", "false"):
            return failure(400, "spans must be true or false")
        if not text:
            return failure(400, "name a trace id")
        report = await traces.find(text, with_spans=with_spans == "true")
        return document(trace_document(report), 200 if report.is_known else 404)

    return [
        Route("/api/traces", authorized(recent)),
        Route("/api/traces/{trace_id:path}", authorized(one)),
    ]
