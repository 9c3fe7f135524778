"""Routes of the admin API that list, replay, discard and export dead letters.

::

    GET    /api/dead-letters?…&before=ID&limit=N          a page of them, newest first
    GET    /api/dead-letters/groups?…                     how many by destination, reason and words
    GET    /api/dead-letters/export?…&after=ID            a page of OTLP JSON lines, oldest first
    GET    /api/dead-letters/ID                           one, with its spans
    POST   /api/dead-letters/replay?…&after=ID            send a step of them again
               &to=NAME&derive_ids=true&keep=true
    DELETE /api/dead-letters?…&after=ID&erase=true        drop a step of them
    POST   /api/dead-letters/finish-erasing               after it nothing of that is left

… is a filter: destination, reason, since_ns, trace, until, and id as often as wanted. Whoever
pages gives back as `after` (or `before`) what the last page said as `next`, until that is null;
`until` keeps letters out that came after somebody began.

400: the filter cannot be understood. 404: no such letter. 409: refused, and nothing was changed.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from relay.admin.answers import document, failure
from relay.admin.control import Endpoint
from relay.admin.dead_letter_documents import groups_document, letter_document, list_document
from relay.buffer.values import DeadLetterFilter
from relay.dead_letters.change import DeadLetters, ReplayRefused
from relay.dead_letters.look import UnknownDeadLetter, in_thread
from relay.model.errors import RelayError

ALL = "/api/dead-letters"
MOST_LISTED = 1000
MOST_IDS = 500
_NEWEST = 2**63 - 1


class BadFilter(RelayError):
    """A filter of dead letters cannot be understood."""

    code = "bad_filter"


def filter_of(query: QueryParams) -> DeadLetterFilter:
    """The filter in a request's query. Raises BadFilter."""
    ids = tuple(number(text, "id") for text in query.getlist("id"))
    if len(ids) > MOST_IDS:
        raise BadFilter(f"at most {MOST_IDS} ids at once")
    return DeadLetterFilter(
        destination=query.get("destination", ""),
        reason=query.get("reason", ""),
        since_ns=number(query.get("since_ns", "0"), "since_ns"),
        trace=query.get("trace", ""),
        ids=ids,
        until=number(query["until"], "until") if "until" in query else None,
    )


def number(text: str, name: str) -> int:
    """A whole number that SQLite can hold. Raises BadFilter."""
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _NEWEST):
        raise BadFilter(f"{name} must be a whole number")
    return int(text)


def flag(query: QueryParams, name: str) -> bool:
    """A parameter that is true or false. Raises BadFilter."""
    text = query.get(name, "false")
    if text not in ("true", "false"):
        raise BadFilter(f"{name} must be true or false")
    return text == "true"


def routes(letters: DeadLetters, authorized: Callable[[Endpoint], Endpoint]) -> list[Route]:
    """The routes over `letters`, each behind `authorized`."""

    async def listed(request: Request) -> Response:
        query = request.query_params
        limit = number(query.get("limit", "100"), "limit")
        if not 1 <= limit <= MOST_LISTED:
            raise BadFilter(f"limit must be a number from 1 to {MOST_LISTED}")
        before = number(query.get("before", str(_NEWEST)), "before")
        found = await letters.entries(filter_of(query), before=before, limit=limit)
        return document(list_document(found))

    async def groups(request: Request) -> Response:
        return document(groups_document(await letters.groups(filter_of(request.query_params))))

    async def export(request: Request) -> Response:
        query = request.query_params
        return document(await letters.export(filter_of(query), after=after(query)))

    async def show(request: Request) -> Response:
        found = await letters.show(number(request.path_params["letter_id"], "the id"))
        return document(await in_thread([found], partial(letter_document, found)))

    async def replay(request: Request) -> Response:
        query = request.query_params
        found = await letters.replay(
            filter_of(query),
            after=after(query),
            to=query.get("to", ""),
            derives=flag(query, "derive_ids"),
            keeps=flag(query, "keep"),
        )
        return document(found)

    async def discard(request: Request) -> Response:
        query = request.query_params
        erases = flag(query, "erase")
        return document(await letters.discard(filter_of(query), after=after(query), erases=erases))

    async def finish_erasing(_request: Request) -> Response:
        return document(await letters.finish_erasing())

    return [
        Route(ALL, authorized(listed), methods=["GET"]),
        Route(ALL, authorized(discard), methods=["DELETE"]),
        Route(f"{ALL}/replay", authorized(replay), methods=["POST"]),
        Route(f"{ALL}/finish-erasing", authorized(finish_erasing), methods=["POST"]),
        Route(f"{ALL}/groups", authorized(groups), methods=["GET"]),
        Route(f"{ALL}/export", authorized(export), methods=["GET"]),
        Route(f"{ALL}/{{letter_id}}", authorized(show), methods=["GET"]),
    ]


def after(query: QueryParams) -> int:
    """Where a page begins. Raises BadFilter."""
    return number(query.get("after", "0"), "after")


async def unknown(_request: Request, error: Exception) -> Response:
    """The answer to UnknownDeadLetter."""
    return failure(404, str(error))


async def misunderstood(_request: Request, error: Exception) -> Response:
    """The answer to BadFilter."""
    return failure(400, str(error))


async def refused(_request: Request, error: Exception) -> Response:
    """The answer to ReplayRefused."""
    return failure(409, str(error))


EXCEPTION_HANDLERS: Mapping[type[Exception], Callable[[Request, Exception], Any]] = {
    UnknownDeadLetter: unknown,
    BadFilter: misunderstood,
    ReplayRefused: refused,
}
