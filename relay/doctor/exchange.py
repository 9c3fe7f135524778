"""A line and a request go in; the answer as far as it is wanted comes out, under one deadline."""

import contextlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import anyio
import httpcore2

from relay.doctor import breakage
from relay.doctor.dialling import Line, Target, speaks_tls
from relay.doctor.report import StepFailed
from relay.otlp import answers
from relay.otlp.words import clean, mask
from relay.upstream.request_head import MAX_ANSWER_BYTES, MAX_WORDS_CHARACTERS, decoder
from relay.upstream.routes import without_query


@dataclass(slots=True)
class Reply:
    """An answer. `ending` tells how its body came to its end, or did not."""

    status: int
    phrase: str
    headers: dict[str, str]
    body: bytes = field(default=b"", repr=False)
    ending: Literal["whole", "too long", "too slow", "cut"] = "whole"
    words: str = ""  # the upstream's own, masked
    heard: str = field(default="", repr=False)  # the same unmasked, to be compared and not shown

    @property
    def content_type(self) -> str:
        """The bare media type, in lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def is_page(self) -> bool:
        """Whether it is an HTML page."""
        start = self.body[:512].lstrip().lower()
        return "html" in self.content_type or start.startswith((b"<!doctype html", b"<html"))

    @property
    def said(self) -> str:
        """Status and words in one line, such as `403 Forbidden “no such token”`."""
        first = f"{self.status} {self.phrase}".rstrip()
        return f"{first} “{self.words}”" if self.words else first


@dataclass(frozen=True, slots=True)
class Secrets:
    """What must not be shown of this destination."""

    values: tuple[str, ...] = field(repr=False)

    def shown(self, words: str) -> str:
        """Words of somebody else in one short line, secrets masked."""
        return mask(clean(words, MAX_WORDS_CHARACTERS), self.values) if words else ""


async def ask(
    line: Line,
    target: Target,
    head: list[tuple[bytes, bytes]],
    content: bytes | None,
    secrets: Secrets,
) -> Reply:
    """POST `content` (GET where it is None) to the target's URL, and its answer.

    Raises StepFailed when there is none within the destination's timeout. The line is of no use
    afterwards.
    """
    url = target.url
    origin = httpcore2.Origin(url.raw_scheme, url.raw_host, url.port or target.place.port)
    path = url.raw_path
    if line.is_forwarded:
        path = b"http://" + url.netloc + url.raw_path
        if line.proxy_authorization:
            proxy_head = (b"Proxy-Authorization", line.proxy_authorization.encode("latin-1"))
            head = [*head, proxy_head]
    request = httpcore2.Request(
        "GET" if content is None else "POST",
        httpcore2.URL(scheme=url.raw_scheme, host=origin.host, port=origin.port, target=path),
        headers=head,
        content=content or b"",
    )
    connection = httpcore2.AsyncHTTP11Connection(origin, line.stream)
    reply: Reply | None = None
    with anyio.move_on_after(target.timeout_seconds):
        try:
            response = await connection.handle_async_request(request)
        except httpcore2.LocalProtocolError:
            # Its text may hold a header's value.
            raise StepFailed(
                "http", "the request breaks a rule of HTTP", "check names and values of its headers"
            ) from None
        except breakage.FOREIGN as error:
            raise await _broken(error, line, target) from error
        reply = _reply(response, secrets)
        reply.ending = "too slow"  # until its end has come
        await _read(response, reply)
    if reply is None:
        raise _silent(line, target)
    _put_words(reply, secrets)
    return reply


async def _broken(error: Exception, line: Line, target: Target) -> StepFailed:
    place = line.proxy if line.is_forwarded and line.proxy else target.place
    failed = breakage.of_exchange(
        error, place, line.stream, has_client_certificate=target.client_cert is not None
    )
    # Many servers close a TLS port without a byte when plain HTTP comes: ask them in TLS.
    is_silent = not target.is_tls and line.proxy is None and not line.stream.bytes_read
    if is_silent and await speaks_tls(target.place, target.connect_seconds):
        return breakage.plain_to_tls(target.place)
    return failed


def _silent(line: Line, target: Target) -> StepFailed:
    seconds = f"{target.timeout_seconds:g} s"
    if line.stream.bytes_read:
        return StepFailed(
            "http",
            f"{target.place} began an answer whose head had no end within {seconds}",
            "check host and port in the endpoint: that is hardly an OTLP endpoint",
        )
    by = f"the proxy {line.proxy}" if line.is_forwarded else f"{target.place}"
    return StepFailed(
        "http",
        f"{by} took the request and answered nothing within {seconds}",
        "check host and port, and whether the server behind them is stuck",
    )


def _reply(response: httpcore2.Response, secrets: Secrets) -> Reply:
    headers = {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers
    }
    if "location" in headers:
        headers["location"] = secrets.shown(without_query(headers["location"]))
    phrase = response.extensions.get("reason_phrase", b"").decode("latin-1")
    return Reply(response.status, secrets.shown(phrase)[:60], headers)


async def _read(response: httpcore2.Response, reply: Reply) -> None:
    """Fill `reply.body`, unzipped, up to the cap, and say how it ended."""
    unzip = decoder(reply.headers.get("content-encoding", ""))
    arrived = 0
    try:
        async with contextlib.aclosing(response.aiter_stream()) as chunks:
            async for chunk in chunks:
                arrived += len(chunk)
                reply.body += unzip(chunk, MAX_ANSWER_BYTES - len(reply.body))
                if max(arrived, len(reply.body)) >= MAX_ANSWER_BYTES:
                    reply.ending = "too long"
                    return
        reply.ending = "whole"
    except (*breakage.FOREIGN, zlib.error):
        reply.ending = "cut"


def _put_words(reply: Reply, secrets: Secrets) -> None:
    content_type = reply.headers.get("content-type", "")
    try:
        reply.heard = answers.read_words(reply.body, content_type)
        reply.words = secrets.shown(reply.heard)
    except Exception:  # noqa: BLE001 - a foreign text must not end the test: there are no words
        reply.words = reply.heard = ""


def masked(headers: Mapping[str, str], target: Target) -> Secrets:
    """The secrets of a test: every header's value, users and passwords of the URLs."""
    own = [target.authorization] if target.authorization else []
    return Secrets((*headers.values(), *target.secrets, *own))
