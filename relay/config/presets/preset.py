"""What is known of one backend: the keys of a file NAME.toml beside this one.

Times are seconds, sizes bytes before compression.
"""

import re
from typing import Final, Literal

from msgspec import Struct

from relay.model.errors import ConfigError

TOKEN: Final = "{token}"  # noqa: S105 - the mark in a template where the value stands
SignalName = Literal["traces", "logs", "metrics"]
Temporality = Literal["any", "cumulative", "delta"]
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


class HeaderField(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One header that a backend wants or takes."""

    name: str
    template: str = TOKEN
    """The whole value; `{token}` in it is what the user is asked for."""
    asks: str = ""
    """What to ask for; empty if the value is fixed and nothing is asked."""
    is_secret: bool = False
    is_required: bool = False
    found_at: str = ""
    """Where the user finds it."""
    example: str = ""
    """What a value looks like, for what is required and no secret."""

    @property
    def is_fixed(self) -> bool:
        """Whether the template is the value already."""
        return not self.asks

    @property
    def prefix(self) -> str:
        """What every right value begins with, such as "Bearer "; empty if anything may."""
        return self.template.partition(TOKEN)[0]

    def fill(self, token: str) -> str:
        """The header's value with what the user gave in its place."""
        return self.template.replace(TOKEN, token)


class KnownRefusal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a backend says when it refuses, what that means and what to do."""

    status: int
    words: str = ""
    """A part of the response's text; empty if the status alone says it."""
    meaning: str
    remedy: str
    is_content: bool = False
    """It is about what was sent, whatever the status says: treated as 400 is."""
    age: Literal["older", "newer", "series"] | None = None
    """It is about the time of items: whatever is older is refused, too, or whatever is newer; or
    whatever is older in the same series or stream."""

    def fits(self, status: int, words: str) -> bool:
        """Whether a response is this refusal; the case of letters does not count."""
        return status == self.status and self.words.lower() in words.lower()


class SignalFacts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is different for another signal than the one that `endpoint` is for."""

    endpoint: str = ""
    """Its URL, where `path` in the place of the other's does not tell it."""
    path: str = ""
    """Its path at the end of the URL; by default /v1/ and its name."""
    encoding: Literal["auto", "json", "protobuf"] | None = None
    without_headers: tuple[str, ...] = ()
    """Headers that are not for this signal."""
    headers: tuple[HeaderField, ...] = ()
    """Further headers."""
    max_batch_bytes: int | None = None
    max_age_seconds: float | None = None
    temporality: Temporality = "any"
    refusals: tuple[KnownRefusal, ...] = ()
    notes: tuple[str, ...] = ()
    unconfirmed: tuple[str, ...] = ()


class Preset(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of one backend, or of one sender if `is_sender`."""

    name: str
    title: str
    endpoint: str
    """The URL for the first of `default_signals`; `{host}` and the like are the user's to fill in.
    """
    default_signals: tuple[SignalName, ...] = ("traces",)
    """What a destination gets that does not say; the first is what the other keys are about."""
    signals: dict[str, SignalFacts] = {}
    """What it takes beside the first, and how."""
    refuses: dict[str, str] = {}
    """The other signals, each with the fact, as a sentence."""
    temporality: Temporality = "any"
    """Which metrics it takes, if its first signal is metrics."""
    examples: dict[str, str] = {}
    """What stands for each placeholder of `endpoint` in an example."""
    endpoints: dict[str, str] = {}
    """Other URLs by what they are for, such as a region; placeholders as in `endpoint`."""
    headers: tuple[HeaderField, ...] = ()
    encoding: Literal["auto", "json", "protobuf"] = "auto"
    """auto: JSON and protobuf are both taken, or nobody knows: each batch as it came in."""
    compression: Literal["auto", "none", "gzip"] = "auto"
    max_batch_bytes: int | None = None
    max_batch_items: int | None = None
    max_age_seconds: float | None = None
    """Older spans are refused by the backend."""
    success_statuses: tuple[int, ...] = (200,)
    """What it is known to answer; any 2xx counts as taken unless its body says the contrary."""
    refusals: tuple[KnownRefusal, ...] = ()
    """The first that fits counts: those with words stand before those without."""
    refuses_empty: bool = False
    """A request without spans is refused: a connection test has to send one."""
    makes_dataset: bool = False
    """A span brings something lasting into being there: a test sends none unasked."""
    query: Literal["jaeger", "tempo"] | None = None
    """The kind of API by which a trace can be read back."""
    query_endpoint: str = ""
    """URL of one trace in it, with `{host}` and `{trace_id}`."""
    page: str
    """The vendor's own documentation."""
    notes: tuple[str, ...] = ()
    unconfirmed: tuple[str, ...] = ()
    """What is said of it and was not seen at a source: to be shown as such."""
    is_sender: bool = False
    """It sends spans to the relay and takes none."""

    @property
    def placeholders(self) -> tuple[str, ...]:
        """Names of what `endpoint` leaves to the user, without braces."""
        return tuple(dict.fromkeys(_PLACEHOLDER.findall(self.endpoint)))

    def fill_endpoint(self, **values: str) -> str:
        """The endpoint with its placeholders filled in. Raises KeyError if one is not given."""
        return _PLACEHOLDER.sub(lambda match: values[match[1]], self.endpoint)

    @property
    def example_endpoint(self) -> str:
        """The endpoint as somebody could have it."""
        return self.fill_endpoint(**self.examples)

    @property
    def all_endpoints(self) -> tuple[str, ...]:
        """Every URL, the first choice first, none twice."""
        return tuple(dict.fromkeys([self.endpoint, *self.endpoints.values()]))

    def explain(self, status: int, words: str, signal: str = "traces") -> KnownRefusal | None:
        """What a response of this backend means; None if nothing is known of it."""
        return next((r for r in self.refusals_of(signal) if r.fits(status, words)), None)

    @property
    def taken_signals(self) -> tuple[str, ...]:
        """The signals that it takes, or sends."""
        return tuple(dict.fromkeys([*self.default_signals, *self.signals]))

    def facts_of(self, signal: str) -> SignalFacts:
        """What is different for this signal. Raises ConfigError with the fact if it is not taken.

        Of the first signal nothing is.
        """
        if signal == self.default_signals[0]:
            return SignalFacts(temporality=self.temporality)
        if signal in self.signals:
            return self.signals[signal]
        raise ConfigError(
            f"preset {self.name} takes no {signal}: {self.refuses[signal]}",
            hint=f"it takes {', '.join(self.taken_signals)}",
        )

    @property
    def all_headers(self) -> tuple[HeaderField, ...]:
        """The headers of every signal."""
        return (*self.headers, *(h for facts in self.signals.values() for h in facts.headers))

    def endpoint_of(self, signal: str) -> str:
        """The URL for this signal; placeholders as in `endpoint`."""
        facts, first = self.facts_of(signal), self.default_signals[0]
        if signal == first:
            return self.endpoint
        path = facts.path or f"/v1/{signal}"
        return facts.endpoint or self.endpoint.removesuffix(f"/v1/{first}") + path

    def headers_of(self, signal: str) -> tuple[HeaderField, ...]:
        """The headers of a request of this signal."""
        facts = self.facts_of(signal)
        without = {name.lower() for name in facts.without_headers}
        return (*(h for h in self.headers if h.name.lower() not in without), *facts.headers)

    def refusals_of(self, signal: str) -> tuple[KnownRefusal, ...]:
        """What it says of this signal, the particular before the general."""
        return (*self.facts_of(signal).refusals, *self.refusals)
