"""Which header to look at when credentials are refused, by what the preset and the response say.

Pure. Header names are shown, values never: a value is only compared with what it should begin with.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from relay.config.presets import HeaderField, Preset
from relay.doctor.report import StepFailed, StepName
from relay.otlp.signals import WIRE
from relay.upstream.explain_response import Asked, answered, explain_response
from relay.upstream.response import Response

_HEADER_WORD = re.compile(r"\b(?:x-)?[a-z0-9]+(?:-[a-z0-9]+)+\b", re.IGNORECASE)
_MISSING = re.compile(r"missing|required|requires|must|no\b|without|not set|absent", re.IGNORECASE)
_TENANT = re.compile(r"no org id|tenant (?:id|is|header)|x-scope-orgid", re.IGNORECASE)
_DATASET = re.compile(r"data ?set", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question(Asked):
    """What a test request asked, and what is known of whom it asked."""

    headers: Mapping[str, str] = field(repr=False)
    preset: Preset | None = None
    has_item: bool = False

    @property
    def item(self) -> str:
        """What the request carries, for people."""
        return f"the test {WIRE[self.signal].item}" if self.has_item else "an empty request"

    @property
    def known_headers(self) -> tuple[HeaderField, ...]:
        """What the preset knows of the headers of this signal."""
        return self.preset.headers_of(self.signal.word) if self.preset else ()

    def lacks(self, header: str) -> bool:
        """Whether this header was not sent."""
        return header.lower() not in {name.lower() for name in self.headers}

    def failed(
        self, response: Response, meaning: str, remedy: str, step: StepName = "auth"
    ) -> StepFailed:
        """The end of the test by this response."""
        return StepFailed(step, answered(self, response, meaning), remedy)


def on_credentials(response: Response, asked: Question) -> StepFailed:
    """401, 402 and 403."""
    missing = on_missing_header(response, asked)
    if missing is not None:
        return missing
    fault = explain_response(response, asked)
    if response.status == 402 or not asked.headers:
        return StepFailed.of(fault)
    unlike = _unlike(asked)
    if unlike:
        return asked.failed(response, "it refuses the credentials", unlike)
    known = by_preset(response, asked, "auth")
    if known is not None:
        return known
    if _DATASET.search(response.heard):
        return asked.failed(
            response,
            "it refuses the data set, or the token may not write to it",
            f"check the headers {', '.join(asked.headers)} and what the token is allowed to do",
        )
    return StepFailed.of(fault)


def by_preset(response: Response, asked: Question, step: StepName) -> StepFailed | None:
    """What the preset knows of this response."""
    if asked.preset is None:
        return None
    known = asked.preset.explain(response.status, response.heard, asked.signal.word)
    return asked.failed(response, known.meaning, known.remedy, step) if known else None


def on_missing_header(response: Response, asked: Question) -> StepFailed | None:
    """A header that the preset, or the response itself, says is needed and that is not set."""
    known = asked.known_headers
    lacking = [each for each in known if each.is_required and asked.lacks(each.name)]
    if lacking:
        first = lacking[0]
        names = " and ".join(each.name for each in lacking)
        where = f" ({first.found_at})" if first.found_at else ""
        verb = "is" if len(lacking) == 1 else "are"
        return asked.failed(response, f"{names} {verb} not set", f"set {names}{where}")
    tenant = on_tenant(response, asked)
    if tenant is not None:
        return tenant
    if not _MISSING.search(response.heard):
        return None
    for word in (*(each.name for each in known), *_named_headers(response.heard)):
        if word.lower() in response.heard.lower() and asked.lacks(word):
            return asked.failed(response, f"the header {word} is not set", f"set the header {word}")
    return None


def on_tenant(response: Response, asked: Question) -> StepFailed | None:
    """Tempo, Mimir and their kin name no header when the tenant is missing."""
    if not asked.lacks("X-Scope-OrgID") or not _TENANT.search(response.heard):
        return None
    return asked.failed(
        response,
        "it needs a tenant, and none is set",
        "set the header X-Scope-OrgID to the tenant",
    )


def _named_headers(words: str) -> Iterable[str]:
    """What looks like a header's name: anything with a dash where the text speaks of a header, else
    what begins with X-.
    """
    speaks_of_one = "header" in words.lower()
    return (
        word
        for word in _HEADER_WORD.findall(words)
        if word.lower() != "content-type" and (speaks_of_one or word.lower().startswith("x-"))
    )


def _unlike(asked: Question) -> str:
    """What to do about a value that does not begin as it should; empty if all do."""
    by_name = {name.lower(): value for name, value in asked.headers.items()}
    fields = asked.known_headers
    for each in fields:
        value = by_name.get(each.name.lower())
        if value is not None and each.prefix and not value.startswith(each.prefix):
            return f"start {each.name} with “{each.prefix.strip()} ”, then the token"
    value = by_name.get("authorization", "")
    if not fields and value and " " not in value:
        return "start Authorization with its scheme, usually “Bearer ”, then the token"
    return ""
