"""What profiles are put together from: tokens and words in, header rules and wordings out."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mockcollector.rules import Body, Encoding, HeaderRule, Rules, Wording
from mockcollector.signals import TRAITS, Signal


@dataclass(frozen=True, slots=True)
class Profile:
    """A vendor's endpoints, by signal; what it does not take is not there, and 404.

    `headers` are those of a request that it takes, `other_headers` those of a signal instead.
    """

    rules: Mapping[Signal, Rules]
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    unconfirmed: tuple[str, ...] = ()
    name: str = ""
    summary: str = ""
    other_headers: Mapping[Signal, Mapping[str, str]] = field(default_factory=dict, repr=False)

    def headers_of(self, signal: Signal) -> Mapping[str, str]:
        """The headers of a request of this signal."""
        return self.other_headers.get(signal, self.headers)


def only_traces(rules: Rules) -> dict[Signal, Rules]:
    """The endpoints of a vendor that takes traces."""
    return {Signal.TRACES: rules}


def every_signal(rules: Rules, **metrics: Any) -> dict[Signal, Rules]:
    """The endpoints of a vendor that takes all three the same way; `metrics` differ in these."""
    base = rules.path.removesuffix(TRAITS[Signal.TRACES].path)
    at = {signal: replace(rules, path=base + TRAITS[signal].path) for signal in Signal}
    return at | {Signal.METRICS: replace(at[Signal.METRICS], **metrics)}


PROTOBUF_ONLY = {Encoding.PROTOBUF.media_type: Encoding.PROTOBUF}
ANSWER_UNKNOWN = "how it refuses a token that is missing or wrong: 401 here"
JSON_UNKNOWN = "whether it takes JSON: here it does"
BASE_UNKNOWN = "every other refusal: the strict collector's own here"


def tenant(refusal: Wording, *, is_needed: bool) -> tuple[tuple[HeaderRule, ...], dict[str, str]]:
    """Grafana's header of a tenant, where there are several: its rule, and one that passes."""
    if not is_needed:
        return (), {}
    return (HeaderRule("X-Scope-OrgID", None, refusal, refusal),), {"X-Scope-OrgID": "tenant"}


def same_answer(name: str, expected: str, wording: Wording) -> HeaderRule:
    """A header that is answered alike where it is missing and where it is wrong."""
    return HeaderRule(name, expected, wording, wording)


def basic(token: str) -> str:
    """The value of Authorization for USER:PASSWORD, or for the base64 of that."""
    encoded = base64.b64encode(token.encode()).decode() if ":" in token else token
    return f"Basic {encoded}"


def detail(status: int, text: str) -> Wording:
    """A refusal as FastAPI writes it."""
    body: Body = {"detail": text}
    return Wording(status, body=body)


def error(status: int, text: str) -> Wording:
    """A refusal in an object with the one member `error`."""
    body: Body = {"error": text}
    return Wording(status, body=body)
