"""Routes of the admin API that list, replay, discard and export dead letters.

::

    GET    /api/dead-letters?…&before=ID&limit=N          a page of them, newest first
    GET    /api/dead-letters/groups?…                     how many by destination, reason and words
    GET    /api/dead-letters/export?…&after=ID            a page of OTLP JSON lines, oldest first
    GET    /api/dead-letters/ID                           one, with its items
    POST   /api/dead-letters/replay?…&after=ID            replay a step of them
               &to=NAME&derive_ids=true&keep=true
    DELETE /api/dead-letters?…&after=ID&erase=true        drop a step of them
    POST   /api/dead-letters/finish-erasing               after it nothing of that is left

What a destination must not see is redacted in what is shown and exported, without
`unredacted=true`.

… is a filter: destination, signal, reason, since_ns, trace, until, and id as often as wanted.
Whoever pages gives back as `after` (or `before`) what the last page said as `next`, until that is
null; `until` keeps letters out that came after somebody began.

400: the filter cannot be understood. 404: no such letter. 409: refused, and nothing was changed.
"""

from functools import partial
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request

from relay.admin.api import MOST, Api, BadQuery, flag, number, signal_of
from relay.admin.dead_letter_documents import groups_document, letter_document, list_document
from relay.buffer.values import DeadLetterFilter
from relay.dead_letters.change import DeadLetters, Discarded, Erased, Replayed
from relay.dead_letters.look import Exported, in_thread

ALL = "/api/dead-letters"
MOST_LISTED = 1000
MOST_IDS = 500


def filter_of(query: QueryParams) -> DeadLetterFilter:
    """The filter in a request's query. Raises BadQuery."""
    ids = tuple(number(text, "id") for text in query.getlist("id"))
    if len(ids) > MOST_IDS:
        raise BadQuery(f"at most {MOST_IDS} ids at once")
    return DeadLetterFilter(
        destination=query.get("destination", ""),
        reason=query.get("reason", ""),
        since_ns=number(query.get("since_ns", "0"), "since_ns"),
        trace=query.get("trace", ""),
        ids=ids,
        until=number(query["until"], "until") if "until" in query else None,
        signal=signal_of(query),
    )


def after(query: QueryParams) -> int:
    """Where a page begins. Raises BadQuery."""
    return number(query.get("after", "0"), "after")


def routes(letters: DeadLetters) -> list[Api]:
    """The routes over `letters`."""

    async def listed(request: Request) -> dict[str, Any]:
        query = request.query_params
        limit = number(query.get("limit", "100"), "limit")
        if not 1 <= limit <= MOST_LISTED:
            raise BadQuery(f"limit must be a number from 1 to {MOST_LISTED}")
        before = number(query.get("before", str(MOST)), "before")
        return list_document(await letters.entries(filter_of(query), before=before, limit=limit))

    async def groups(request: Request) -> dict[str, Any]:
        return groups_document(await letters.groups(filter_of(request.query_params)))

    async def export(request: Request) -> Exported:
        query = request.query_params
        is_whole = flag(query, "unredacted")
        return await letters.export(filter_of(query), after=after(query), is_whole=is_whole)

    async def show(request: Request) -> Any:
        is_whole = flag(request.query_params, "unredacted")
        letter_id = number(request.path_params["letter_id"], "the id")
        found = await letters.show(letter_id, is_whole=is_whole)
        return await in_thread([found], partial(letter_document, found))

    async def replay(request: Request) -> Replayed:
        query = request.query_params
        return await letters.replay(
            filter_of(query),
            after=after(query),
            to=query.get("to", ""),
            derives=flag(query, "derive_ids"),
            keeps=flag(query, "keep"),
        )

    async def discard(request: Request) -> Discarded:
        query = request.query_params
        erases = flag(query, "erase")
        return await letters.discard(filter_of(query), after=after(query), erases=erases)

    async def finish_erasing(_request: Request) -> Erased:
        return await letters.finish_erasing()

    return [
        ("GET", ALL, listed),
        ("DELETE", ALL, discard),
        ("POST", f"{ALL}/replay", replay),
        ("POST", f"{ALL}/finish-erasing", finish_erasing),
        ("GET", f"{ALL}/groups", groups),
        ("GET", f"{ALL}/export", export),
        ("GET", f"{ALL}/{{letter_id}}", show),
    ]
