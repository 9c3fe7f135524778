"""Routes of the admin API that tell what models and agents did, of what is kept.

::

    GET  /api/genai?by=model             calls, tokens, cost, time, errors, tools; see docs/genai.md
         &since=NANOSECONDS              of what was received then or later
         &personal=true                  with e-mail addresses, arguments of tools and the like
         &seconds=3                      how long to look at most
         &old=0                          an answer that is so many seconds old will do
    GET  /api/genai/sessions/ID          the same of one session, and what happened in it in order

404: nothing of the session was found; `looked` tells how far back the relay looked.
"""

from typing import Any, Final

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from relay.admin.api import Api, BadQuery, digits, document, flag
from relay.admin.control import nanoseconds
from relay.genai.call import MOST_NAME_CHARACTERS
from relay.genai.summary import BY
from relay.traces.kept_calls import MOST_SECONDS, SECONDS, Asked, KeptCalls

MOST_SECONDS_OLD: Final = 60


def routes(calls: KeptCalls) -> list[Api]:
    """The routes over `calls`."""

    async def summary(request: Request) -> dict[str, Any]:
        query = request.query_params
        old = digits(query.get("old", "0"))
        if old is None or old > MOST_SECONDS_OLD:
            raise BadQuery(f"old must be a number of seconds up to {MOST_SECONDS_OLD}")
        return await calls.answer(_asked(query), most_seconds_old=old)

    async def session(request: Request) -> Response:
        name = request.path_params["session"][:MOST_NAME_CHARACTERS]
        if not name:
            raise BadQuery("name a session")
        found = await calls.answer(_asked(request.query_params, session=name))
        return document(found, 200 if "entries" in found else 404)

    return [
        ("GET", "/api/genai", summary),
        ("GET", "/api/genai/sessions/{session:path}", session),
    ]


def _asked(query: QueryParams, session: str = "") -> Asked:
    by = query.get("by", "model")
    if by not in BY:
        raise BadQuery(f"by must be {', '.join(BY)}")
    since_ns = nanoseconds(query["since"]) if "since" in query else 0
    if since_ns is None:
        raise BadQuery("since must be NANOSECONDS, a time since 1970")
    seconds = digits(query.get("seconds", str(int(SECONDS))))
    if seconds is None or not 1 <= seconds <= MOST_SECONDS:
        raise BadQuery(f"seconds must be a number from 1 to {MOST_SECONDS:.0f}")
    return Asked(
        since_ns=since_ns,
        by=by,
        session=session,
        show_personal=flag(query, "personal"),
        seconds=seconds,
    )
