"""What is known of one backend: the keys of a file NAME.toml beside this one.

Times are seconds, sizes bytes before compression.
"""

import re
from typing import Final, Literal

from msgspec import Struct

TOKEN: Final = "{token}"  # noqa: S105 - the mark in a template where the value stands
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

    def fits(self, status: int, words: str) -> bool:
        """Whether a response is this refusal; the case of letters does not count."""
        return status == self.status and self.words.lower() in words.lower()


class Preset(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of one backend, or of one sender if `is_sender`."""

    name: str
    title: str
    endpoint: str
    """The URL for traces; `{host}` and the like in it are the user's to fill in."""
    examples: dict[str, str] = {}
    """What stands for each placeholder of `endpoint` in an example."""
    endpoints: dict[str, str] = {}
    """Other URLs by what they are for, such as a region; placeholders as in `endpoint`."""
    headers: tuple[HeaderField, ...] = ()
    encoding: Literal["auto", "json", "protobuf"] = "auto"
    """auto: JSON and protobuf are both taken, or nobody knows: each batch as it came in."""
    compression: Literal["auto", "none", "gzip"] = "auto"
    max_batch_bytes: int | None = None
    max_batch_spans: int | None = None
    max_age_seconds: float | None = None
    """Older spans are refused by the backend."""
    success_statuses: tuple[int, ...] = (200,)
    """What it is known to answer; any 2xx counts as taken."""
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

    def explain(self, status: int, words: str) -> KnownRefusal | None:
        """What a response of this backend means; None if nothing is known of it."""
        return next((each for each in self.refusals if each.fits(status, words)), None)
