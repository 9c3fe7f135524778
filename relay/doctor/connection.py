"""The connection test: whether a destination takes a signal, and if not, why and what to do.

::

    name → tcp → tls ─ watch        http → auth → encoding → request ─ responses
                                    read_back ─ where the preset knows a query API

For traces one empty request answers four of the questions at once: whoever answers it as OTLP does
has understood HTTP, taken the credentials and the encoding. Only `send_span` makes a span, since
some backends make a data set of it. For logs and metrics it is one log record or one data point:
several vendors answer 200 to an empty request without looking at token or data set.
"""
# ruff: noqa: PT028 - test_connection is no test of pytest

from collections.abc import Callable, Mapping, Sequence

import msgspec

from relay.config import DestinationConfig, ListenAddress, points_at, resolve_headers
from relay.config.presets import Preset, find
from relay.doctor import loops, responses
from relay.doctor.advice import Question
from relay.doctor.payload import ProbeItem, body_of
from relay.doctor.read_back import read_back
from relay.doctor.report import EncodingName, Recorder, Report, Step, StepFailed, StepName
from relay.doctor.responses import Accepted, Refused, Verdict
from relay.doctor.watch import CONNECT_SECONDS, StepWatch
from relay.model.errors import ConfigError
from relay.model.records import Encoding, Signal
from relay.otlp.compression import gzip_level_1
from relay.upstream.exchange import Body, ExchangeFailed, Upstream
from relay.upstream.explain import plain_to_tls
from relay.upstream.response import Response
from relay.upstream.tls import speaks_tls

_OF_ONE_RESPONSE: tuple[StepName, ...] = ("http", "auth", "encoding", "request")
_WORDS = {Encoding.JSON: "JSON", Encoding.PROTOBUF: "protobuf"}
_NAMES: dict[Encoding, EncodingName] = {Encoding.JSON: "json", Encoding.PROTOBUF: "protobuf"}


async def test_connection(
    destination: DestinationConfig,
    *,
    headers: Mapping[str, str],
    send_span: bool = False,
    own_addresses: Sequence[ListenAddress] = (),
    own_id: str = "",
    on_step: Callable[[Step], None] | None = None,
) -> Report:
    """Test one view of a destination with these `headers`, secrets filled in. Changes nothing here.

    Never raises for what the network or the configuration do: that is in the report. A step is
    told to `on_step` as soon as it is known. `own_addresses` are those of this relay's ingest and
    `own_id` what it adds to `otlp-relay-hops`: both reveal a loop. Each of name, TCP and TLS may
    take ten seconds, and each request the destination's timeout.
    """
    record = Recorder(on_step)
    try:
        if points_at(destination, own_addresses):
            raise loops.own_listener(destination.shown_endpoint)
        test = _Test(destination, headers, own_addresses, own_id, record)
        encoding = await test.run(send_span=send_span)
    except StepFailed as failed:
        record.add(failed.step, "failed", failed.found)
        return Report(tuple(record.steps), passed=False, wrong=failed.wrong, remedy=failed.remedy)
    except ConfigError as error:
        return refused(error, tuple(record.steps))
    return Report(tuple(record.steps), passed=True, encoding=_NAMES[encoding])


async def test_configured(
    destination: DestinationConfig,
    environ: Mapping[str, str],
    *,
    send_span: bool = False,
    own_addresses: Sequence[ListenAddress] = (),
    own_id: str = "",
    on_step: Callable[[Step], None] | None = None,
) -> Report:
    """The test of a view as it is configured: its preset, its secrets read now."""
    try:
        headers = resolve_headers(destination, environ)
    except ConfigError as error:
        return refused(error)
    return await test_connection(
        destination,
        headers=headers,
        send_span=send_span,
        own_addresses=own_addresses,
        own_id=own_id,
        on_step=on_step,
    )


def refused(error: ConfigError, steps: tuple[Step, ...] = ()) -> Report:
    """The report of a destination that cannot even be tried, as when a secret is not set."""
    remedy = error.hint or "correct the destination, then test it again"
    return Report(steps, passed=False, wrong=error.message, remedy=remedy)


class _Test:
    """One test: what it is about, and the connection that the first request goes over."""

    def __init__(
        self,
        destination: DestinationConfig,
        headers: Mapping[str, str],
        own_addresses: Sequence[ListenAddress],
        own_id: str,
        record: Recorder,
    ) -> None:
        self._destination = destination
        self._headers = headers
        self._preset = find(destination.preset) if destination.preset else None
        self._record = record
        self._is_auto = destination.encoding == "auto"
        self._first = _first_encoding(destination, self._preset)
        is_away = destination.compression == "auto" and not destination.is_loopback
        self._gzips = destination.compression == "gzip" or is_away
        watch = StepWatch(destination, own_addresses, record)
        self._upstream = Upstream(destination, hops=own_id, watch=watch)
        self._who = ""
        self._proxy = ""

    async def run(self, *, send_span: bool) -> Encoding:
        """Every step. Raises StepFailed at the first that fails, ConfigError for settings."""
        try:
            route = await self._upstream.connect()
        except ExchangeFailed as failed:
            raise StepFailed.of(failed.fault) from failed
        self._who, self._proxy = str(route.place), str(route.proxy or "")
        is_traces = self._destination.signal is Signal.TRACES
        refuses_empty = self._preset is not None and self._preset.refuses_empty
        is_never_empty = not is_traces or (send_span and refuses_empty)
        item = ProbeItem.new() if is_never_empty else None
        encoding, response, verdict = await self._settle_encoding(item)
        self._note_response(response)
        note = f"{_WORDS[encoding]} was accepted"
        if encoding is not self._first:
            note = f"{_WORDS[self._first]} was refused, {_WORDS[encoding]} accepted: set it"
        self._record.ok("encoding", note)
        if send_span and item is None:
            item = ProbeItem.new()
            verdict = await self._send_span(encoding, item)
        self._note_request(verdict, item)
        if is_traces:
            await self._read_back(item)
        return encoding

    async def _settle_encoding(self, item: ProbeItem | None) -> tuple[Encoding, Response, Accepted]:
        """The encoding that passes, with its response. Raises StepFailed if none does."""
        first = self._first
        response, verdict = await self._ask(first, item)
        if isinstance(verdict, Accepted):
            return first, response, verdict
        if not verdict.may_be_the_encoding:
            raise await self._failed(verdict, response, first)
        other = Encoding.PROTOBUF if first is Encoding.JSON else Encoding.JSON
        try:
            other_response, other_verdict = await self._ask(other, item)
        except StepFailed:
            other_response, other_verdict = response, verdict
        if isinstance(other_verdict, Accepted):
            if self._is_auto:
                return other, other_response, other_verdict
            self._note_before("encoding", response)
            raise StepFailed(
                "encoding",
                f"{self._who} refuses {_WORDS[first]}, not {_WORDS[other]} ({response.said})",
                f'set encoding = "{_NAMES[other]}"',
            )
        if not other_verdict.may_be_the_encoding:
            raise await self._failed(other_verdict, other_response, other)
        await self._blame_gzip(first, item)
        self._note_before("encoding", response)
        raise verdict.failed

    async def _blame_gzip(self, encoding: Encoding, item: ProbeItem | None) -> None:
        """Raises StepFailed if the body passes once it is not compressed."""
        if not self._gzips:
            return
        self._gzips = False
        response, verdict = await self._ask(encoding, item)
        if isinstance(verdict, Accepted):
            self._note_before("encoding", response)
            raise StepFailed(
                "encoding",
                f"{self._who} refuses bodies in gzip and accepts plain ones",
                'set compression = "none"',
            )

    async def _ask(
        self, encoding: Encoding, item: ProbeItem | None, endpoint: str = ""
    ) -> tuple[Response, Verdict]:
        """One POST and what its response means. Raises StepFailed when there is none."""
        response = await self._post(encoding, item)
        question = Question(
            who=self._who,
            endpoint=endpoint or self._destination.endpoint,
            encoding=encoding,
            signal=self._destination.signal,
            header_names=tuple(self._headers),
            proxy=self._proxy,
            headers=self._headers,
            preset=self._preset,
            has_item=item is not None,
        )
        return response, responses.judge(response, question)

    async def _post(self, encoding: Encoding, item: ProbeItem | None) -> Response:
        settings = self._destination
        content, coding = body_of(encoding, settings.signal, item, settings.temporality), ""
        if self._gzips:
            content, coding = gzip_level_1(content), "gzip"
        body = Body(encoding=encoding, content=content, content_encoding=coding)
        try:
            return await self._upstream.exchange(body, self._headers)
        except ExchangeFailed as failed:
            raise await self._explained(failed) from failed
        finally:
            # A connection for each request: half of the servers close it after a refusal.
            await self._upstream.aclose()

    async def _explained(self, failed: ExchangeFailed) -> StepFailed:
        """Many servers close a TLS port without a byte when plain HTTP comes: ask them in TLS."""
        progress = self._upstream.progress
        place, is_plain = progress.peer, self._destination.endpoint.startswith("http:")
        if (
            is_plain
            and not self._proxy
            and not progress.bytes_read
            and failed.fault.step == "http"
            and place is not None
            and await speaks_tls(*place, CONNECT_SECONDS)
        ):
            return StepFailed.of(plain_to_tls(place))
        return StepFailed.of(failed.fault)

    async def _failed(self, verdict: Refused, response: Response, encoding: Encoding) -> StepFailed:
        """The failure, its remedy made surer by trying the URL that was meant."""
        failed = verdict.failed
        self._note_before(failed.step, response)
        if verdict.meant is None:
            return failed
        meant = msgspec.structs.replace(self._destination, endpoint=verdict.meant)
        self._upstream.update(meant)
        try:
            there, found = await self._ask(encoding, None, verdict.meant)
        except (StepFailed, ConfigError):
            return failed
        # Whoever asks for credentials or minds the body there is an endpoint, too.
        is_there = (
            isinstance(found, Accepted) or found.may_be_the_encoding or found.failed.step == "auth"
        )
        if is_there and there.status < 500:
            remedy = f"did you mean {verdict.meant}? There it answers {there.status}"
            return StepFailed(failed.step, failed.wrong, remedy, failed.found)
        return failed

    def _note_before(self, step: StepName, response: Response) -> None:
        """The steps that this response has passed before the one that failed."""
        if step in _OF_ONE_RESPONSE:
            self._note_response(response, _OF_ONE_RESPONSE.index(step))

    def _note_response(self, response: Response, steps: int = 2) -> None:
        """Note the first `steps` of http, auth, encoding."""
        server = response.shown(response.headers.get("server", ""))[:60]
        found = {
            "http": f"answered {response.status_line}" + (f", server: {server}" if server else ""),
            "auth": f"accepted: {', '.join(self._headers)}"
            if self._headers
            else "no header is set, and none was required",
            "encoding": "was understood",
        }
        if response.mended and steps:
            warning = f"; this line breaks the rules of HTTP, and is put up with: {response.mended}"
            self._record.add("http", "warning", found["http"] + warning)
        for name in _OF_ONE_RESPONSE[bool(response.mended) : min(steps, 3)]:
            self._record.ok(name, found[name])

    async def _send_span(self, encoding: Encoding, item: ProbeItem) -> Accepted:
        response, verdict = await self._ask(encoding, item)
        if isinstance(verdict, Accepted):
            return verdict
        failed = verdict.failed
        wrong = f"an empty request was accepted, the test span was not: {failed.wrong}"
        raise StepFailed("request", wrong, failed.remedy, response.said)

    def _note_request(self, verdict: Accepted, item: ProbeItem | None) -> None:
        if verdict.is_empty_refused:
            self._record.add("request", "skipped", f"{verdict.found}; --span sends a test span")
            return
        found = verdict.found
        if item is not None:
            if self._destination.signal is Signal.TRACES:
                found = f"{found}, trace {item.trace_id}"
            if self._preset is not None and self._preset.makes_dataset:
                found += "; it may have created a data set for it"
        warning = f"; {verdict.warning}" if verdict.warning else ""
        self._record.add("request", "warning" if warning else "ok", found + warning)

    async def _read_back(self, item: ProbeItem | None) -> None:
        preset = self._preset
        if preset is None or preset.query is None:
            return
        if item is None:
            self._record.add("read_back", "skipped", "only a test span can be read: --span")
            return
        result = await read_back(self._destination, preset, item.trace_id, self._headers)
        if result.is_there is None:
            self._record.add("read_back", "skipped", result.found)
        elif result.is_there:
            self._record.ok("read_back", result.found)
        else:
            raise StepFailed(
                "read_back",
                f"the test span was accepted, but {preset.title} does not show it: {result.found}",
                "check its log and its storage",
            )


def _first_encoding(destination: DestinationConfig, preset: Preset | None) -> Encoding:
    chosen = destination.encoding
    if chosen == "auto" and preset is not None:
        chosen = preset.encoding
    return Encoding.PROTOBUF if chosen == "protobuf" else Encoding.JSON
