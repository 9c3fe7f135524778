"""A refusal of credentials goes in; the sentences that name the header to look at come out. Pure.

Header names are shown, values never: a value is only compared with what it should begin with.
"""

import re
from collections.abc import Iterable, Mapping

from relay.config.presets import HeaderField, Preset
from relay.doctor.exchange import Reply
from relay.doctor.report import StepFailed

_HEADER_WORD = re.compile(r"\b(?:x-)?[a-z0-9]+(?:-[a-z0-9]+)+\b", re.IGNORECASE)
_MISSING = re.compile(r"missing|required|requires|must|no\b|without|not set|absent", re.IGNORECASE)
_TENANT = re.compile(r"no org id|tenant (?:id|is|header)|x-scope-orgid", re.IGNORECASE)
_DATASET = re.compile(r"data ?set", re.IGNORECASE)


def on_credentials(  # noqa: PLR0911 - one a cause
    reply: Reply, place: str, headers: Mapping[str, str], preset: Preset | None
) -> StepFailed:
    """401, 402 and 403."""
    answered = f"{place} answered {reply.said}"
    missing = on_missing_header(reply, place, headers, preset)
    if missing is not None:
        return missing
    if reply.status == 402:
        return StepFailed("auth", f"{answered}: it wants a payment", "look at the account")
    if not headers:
        return StepFailed(
            "auth",
            f"{answered}: it wants credentials, and no header is set",
            "add the header with its token, such as Authorization: Bearer TOKEN",
        )
    unlike = _unlike(headers, preset)
    if unlike:
        return StepFailed("auth", f"{answered}: it refuses the credentials", unlike)
    known = preset.explain(reply.status, reply.heard) if preset else None
    if known is not None:
        return StepFailed("auth", f"{answered}: {known.meaning}", known.remedy)
    if _DATASET.search(reply.heard):
        return StepFailed(
            "auth",
            f"{answered}: it refuses the data set, or the token may not write to it",
            f"check the headers {', '.join(headers)} and what the token is allowed to do",
        )
    verb = "knows no such token" if reply.status == 401 else "does not allow this to the token"
    noun = "header" if len(headers) == 1 else "headers"
    return StepFailed("auth", f"{answered}: it {verb}", f"check the {noun} {', '.join(headers)}")


def on_missing_header(
    reply: Reply, place: str, headers: Mapping[str, str], preset: Preset | None
) -> StepFailed | None:
    """A header that the preset, or the answer itself, says is needed and that is not set."""
    given = {name.lower() for name in headers}
    answered = f"{place} answered {reply.said}"
    lacking = [
        field
        for field in (preset.headers if preset else ())
        if field.is_required and field.name.lower() not in given
    ]
    if lacking:
        first = lacking[0]
        names = " and ".join(field.name for field in lacking)
        where = f" ({first.found_at})" if first.found_at else ""
        verb = "is" if len(lacking) == 1 else "are"
        return StepFailed("auth", f"{answered}: {names} {verb} not set", f"set {names}{where}")
    tenant = on_tenant(reply, place, headers)
    if tenant is not None:
        return tenant
    if not _MISSING.search(reply.heard):
        return None
    known = [field.name for field in preset.headers] if preset else []
    for word in (*known, *_named_headers(reply.heard)):
        if word.lower() in reply.heard.lower() and word.lower() not in given:
            return StepFailed(
                "auth", f"{answered}: the header {word} is not set", f"set the header {word}"
            )
    return None


def on_tenant(reply: Reply, place: str, headers: Mapping[str, str]) -> StepFailed | None:
    """Tempo, Mimir and their kin name no header when the tenant is missing."""
    if "x-scope-orgid" in {name.lower() for name in headers} or not _TENANT.search(reply.heard):
        return None
    return StepFailed(
        "auth",
        f"{place} answered {reply.said}: it has tenants, and none is named",
        "set the header X-Scope-OrgID to the tenant",
    )


def _named_headers(words: str) -> Iterable[str]:
    """What looks like a header's name in a text that speaks of a header."""
    if "header" not in words.lower():
        return ()
    return (word for word in _HEADER_WORD.findall(words) if word.lower() != "content-type")


def _unlike(headers: Mapping[str, str], preset: Preset | None) -> str:
    """What to do about a value that does not begin as it should; empty if all do."""
    by_name = {name.lower(): value for name, value in headers.items()}
    fields: tuple[HeaderField, ...] = preset.headers if preset else ()
    for field in fields:
        value = by_name.get(field.name.lower())
        if value is not None and field.prefix and not value.startswith(field.prefix):
            return f"let {field.name} begin with “{field.prefix.strip()} ”, then the token"
    value = by_name.get("authorization", "")
    if not fields and value and " " not in value:
        return "let Authorization begin with its scheme: mostly it is “Bearer ”, then the token"
    return ""
