"""What a response that is no success means: cause and remedy, as `explain` says them. Pure."""

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from relay.config.presets import KnownRefusal, Preset
from relay.model.records import Encoding, Signal
from relay.otlp.signals import WIRE
from relay.otlp.upstream_response import HEALTH_CHECK, WEB_PAGE
from relay.upstream import paths
from relay.upstream.explain import (
    GRPC_CAUSE,
    GRPC_REMEDY,
    LOOP_REMEDY,
    PROXY_CREDENTIALS,
    RETRY_LATER,
    Fault,
    Step,
)
from relay.upstream.response import Response
from relay.upstream.routes import Place

_LOGIN = re.compile(r"log[-_]?in|sign[-_]?in|/auth|sso|oauth", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a response answers; `who` is what the sentences call the upstream.

    `items` are those of the request, 0 where nobody has counted.
    """

    who: str
    endpoint: str = field(repr=False)
    encoding: Encoding
    signal: Signal = Signal.TRACES
    preset: Preset | None = None
    header_names: tuple[str, ...] = ()
    proxy: str = ""
    items: int = 0

    @property
    def path(self) -> str:
        """Where the signal is usually posted to."""
        return WIRE[self.signal].path


def explain_response(response: Response, asked: Asked) -> Fault:
    """What a response that is no success (`Response.is_success`) means."""
    status = response.status
    known = known_of_content(response, asked)
    if known is not None:
        cause = answered(asked, response, known.meaning)
        return Fault("request", cause, f"{known.remedy}")
    step, meaning, remedy = _of_status(response, asked)
    heals = status in RETRY_LATER or status >= 500
    return Fault(step, answered(asked, response, meaning), remedy, heals=heals)


def known_of_content(response: Response, asked: Asked) -> KnownRefusal | None:
    """What the preset knows of these words, if they are about what was sent."""
    preset = asked.preset
    if preset is None or response.is_2xx or asked.signal.word not in preset.taken_signals:
        return None
    known = preset.explain(response.status, response.heard, asked.signal.word)
    return known if known is not None and (known.is_content or known.age) else None


def answered(asked: Asked, response: Response, meaning: str = "") -> str:
    """The cause of a fault that a response shows, such as `axiom answered 503 …: “busy”`."""
    return f"{asked.who} answered {response.said}" + (f" ({meaning})" if meaning else "")


def _of_status(  # noqa: PLR0911 - one a status
    response: Response, asked: Asked
) -> tuple[Step, str, str]:
    status = response.status
    if response.is_grpc:
        return ("http", f"it {GRPC_CAUSE}", GRPC_REMEDY)
    if response.is_2xx:
        return _of_no_success(response, asked)
    if status == 413 and asked.items == 1:
        meaning = f"one {WIRE[asked.signal].item} alone is too large for it"
        return ("request", meaning, "raise the body limit there, or of a proxy in between")
    if status in _MEANINGS:
        return _MEANINGS[status]
    if status in (401, 403):
        return ("auth", *_of_credentials(status, asked.header_names))
    if 300 <= status < 400:
        return ("http", *_of_redirect(response.location, asked))
    if status in (404, 405, 410):
        path = urlsplit(asked.endpoint).path or "/"
        meaning = f"{path} does not accept POST" if status == 405 else f"nothing is at {path}"
        return ("http", meaning, _meant(asked))
    if status == 407:
        by = f"the proxy {asked.proxy}" if asked.proxy else "a proxy in between"
        return ("http", f"{by} requires a user and a password", PROXY_CREDENTIALS)
    if status == 415:
        word, other = (
            ("JSON", "protobuf") if asked.encoding is Encoding.JSON else ("protobuf", "json")
        )
        return ("encoding", f"it does not accept {word}", f'set encoding = "{other}"')
    if status >= 500:
        return ("http", "", "check its log")
    return ("http", "", f"check the endpoint: it may not be an OTLP/HTTP {asked.signal.word} URL")


def _of_no_success(response: Response, asked: Asked) -> tuple[Step, str, str]:
    """A 2xx of somebody who has taken nothing."""
    failure = response.success.failure
    meaning = f"that is {failure}, not the response of an OTLP endpoint"
    code = failure.rpartition(" ")[2].upper()
    if code in _CREDENTIALS:
        remedy = _of_credentials(_CREDENTIALS[code], asked.header_names)[1]
        return ("auth", f"that is {failure}, not a success: it refuses the credentials", remedy)
    if failure in (WEB_PAGE, HEALTH_CHECK) or response.ending == "too long":
        meant = paths.meant(asked.endpoint, asked.path)
        port = "check the port: web pages have another one than OTLP, which usually has 4318"
        return ("http", meaning, port if meant is None else f"did you mean {meant}?")
    return ("http", meaning, _REFUSED)


def _of_credentials(status: int, header_names: tuple[str, ...]) -> tuple[str, str]:
    if not header_names:
        return (
            "it requires credentials, and no header is set",
            "add the header with its token, such as Authorization: Bearer TOKEN",
        )
    plain = [name for name in header_names if name.lower() == "authorization"]
    names = plain or header_names
    noun = "header" if len(names) == 1 else "headers"
    meaning = "the token is unknown or revoked"
    if status == 403:
        meaning = "the token is not allowed to do this"
    return meaning, f"check the {noun} {', '.join(names)}"


def _of_redirect(location: str, asked: Asked) -> tuple[str, str]:
    if not location:
        return (
            "it redirects without saying where",
            "check the endpoint: redirects are never followed",
        )
    meaning = f"it redirects to {location}"
    if _LOGIN.search(location):
        return meaning, "that is a login for people: use the address for OTLP, which takes a token"
    if location.startswith("/"):
        location = f"{urlsplit(asked.endpoint).scheme}://{Place.of(asked.endpoint)}{location}"
    return meaning, f"redirects are never followed: set the endpoint to {location} if that is right"


def _meant(asked: Asked) -> str:
    meant = paths.meant(asked.endpoint, asked.path)
    if meant is not None:
        return f"check the path of the endpoint: did you mean {meant}?"
    return (
        f"check host, port and what stands before {asked.path}: OTLP over HTTP is usually on port "
        "4318"
    )


# Of gRPC and of HTTP, by which a 2xx says the contrary in its body.
_CREDENTIALS = {"16": 401, "UNAUTHENTICATED": 401, "401": 401, "403": 403}
_CREDENTIALS |= {"7": 403, "PERMISSION_DENIED": 403, "PERMISSIONDENIED": 403}
_REFUSED = "check encoding, endpoint and headers"
_GATEWAY = "a gateway answered that cannot reach what is behind it"
_MEANINGS: dict[int, tuple[Step, str, str]] = {
    400: ("encoding", "", _REFUSED),
    402: ("auth", "it requires a payment", "check the account's plan or payment"),
    413: ("request", "the request is too large for it", "lower max_batch_bytes or max_batch_items"),
    422: ("encoding", "", _REFUSED),
    429: ("request", "its rate limit or quota is used up", "check the account's quota"),
    502: ("http", _GATEWAY, "check the gateway and the backend behind it"),
    503: ("http", "", "wait until it has started or has room"),
    504: ("http", _GATEWAY, "check the gateway and the backend behind it"),
    508: ("http", "the request came back to this relay", LOOP_REMEDY),
}
