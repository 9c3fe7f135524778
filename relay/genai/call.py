"""One call of a model, in the same words whoever told of it and however."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2s
from typing import Any, Final

from relay.genai.names import NAMES
from relay.genai.values import (
    Attributes,
    count_of,
    first,
    first_number,
    text_of,
    texts_of,
)

# A model, a session or a user with a longer name is cut: what is told must stay small.
MOST_NAME_CHARACTERS: Final = 200
TOKENS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
_COSTS: Final = ("cost_usd", "input_cost_usd", "output_cost_usd")
_NAMES: Final = (
    "operation",
    "provider",
    "host",
    "model_asked",
    "model_answered",
    "error",
    "response_id",
    "session",
    "user",
    "agent",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call. What nobody told is None, or an empty text; it is never 0.

    `input_tokens` are the whole prompt with what came from a cache, `output_tokens` all that was
    written with the reasoning. Costs are what the sender says, in USD.
    """

    operation: str = ""
    provider: str = ""
    host: str = ""
    model_asked: str = ""
    model_answered: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    input_cost_usd: float | None = None
    output_cost_usd: float | None = None
    latency_ms: float | None = None
    first_token_ms: float | None = None
    finish: tuple[str, ...] = ()
    error: str = ""
    response_id: str = ""
    session: str = ""
    user: str = ""
    agent: str = ""

    @property
    def model(self) -> str:
        """The model that answered, else the one that was asked."""
        return self.model_answered or self.model_asked

    @property
    def has_tokens(self) -> bool:
        """Whether the sender told how many."""
        return self.input_tokens is not None or self.output_tokens is not None


def name_of(attributes: Attributes, what: str) -> str:
    """The name of a model, a session, a tool …, cut; empty when nobody told.

    The same name is the same text in memory: thousands of calls are of few models.
    """
    found = text_of(first(attributes, NAMES[what]))
    is_short = len(found) <= MOST_NAME_CHARACTERS
    return sys.intern(found if is_short else found[: MOST_NAME_CHARACTERS - 1] + "…")


def shown_user(user: str, *, show_personal: bool) -> str:
    """A user as shown: of one that is an address only what tells it from others."""
    if show_personal or "@" not in user:
        return user
    return f"hidden-{blake2s(user.encode(errors='replace'), digest_size=4).hexdigest()}"


def call_of(
    attributes: Attributes,
    *,
    latency_ms: float | None = None,
    adds: Mapping[str, tuple[str, ...]] | None = None,
) -> Call:
    """The call that attributes tell of; `adds` say what to which count, where names are bare."""
    tokens: dict[str, Any] = {
        each: first_number(attributes, NAMES[each], count_of) for each in TOKENS
    }
    for name, fields in (adds or {}).items():
        count = count_of(attributes.get(name))
        if count is not None:
            tokens |= {field: (tokens[field] or 0) + count for field in fields}
    told = first_number(attributes, NAMES["latency_ms"])
    costs = {each: _cost(attributes, each) for each in _COSTS}
    names: dict[str, Any] = {each: name_of(attributes, each) for each in _NAMES}
    return Call(
        **names | tokens | costs,
        total_tokens=_total(attributes, tokens),
        latency_ms=latency_ms if told is None else told,
        first_token_ms=_first_token_ms(attributes),
        finish=tuple(texts_of(first(attributes, NAMES["finish"]))[:8]),
    )


def _total(attributes: Attributes, tokens: Mapping[str, int | None]) -> int | None:
    asked, answered = tokens["input_tokens"], tokens["output_tokens"]
    if asked is not None and answered is not None:
        return asked + answered
    return count_of(first_number(attributes, NAMES["total_tokens"]))


def _cost(attributes: Attributes, what: str) -> float | None:
    found = first_number(attributes, NAMES[what])
    if found is None and what == "cost_usd":
        micros = first_number(attributes, NAMES["cost_micro_usd"])
        found = None if micros is None else micros / 1e6
    return None if found is None or found < 0 else float(found)


def _first_token_ms(attributes: Attributes) -> float | None:
    seconds = first_number(attributes, NAMES["first_token_s"])
    if seconds is not None:
        return round(seconds * 1000, 3)
    return first_number(attributes, NAMES["first_token_ms"])
