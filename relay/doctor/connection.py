"""A destination goes in; a report comes out that says whether it takes spans, and if not, why.

::

    name → tcp → tls ─ dialling        http → auth → encoding → request ─ exchange, answers
                                       read_back ─ where the preset knows a query API

One empty request answers four of the questions at once: whoever answers it as OTLP does has
understood HTTP, taken the credentials and the encoding. Only `send_span` makes a span, since some
backends make a data set of it.
"""
# ruff: noqa: PT028 - test_connection is no test of pytest

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence

from relay.config import DestinationConfig, ListenAddress, points_at, resolve_headers
from relay.config.presets import Preset, find
from relay.config.secrets import mask_url
from relay.doctor import answers, loops
from relay.doctor.answers import Asked, EmptyRefused, EncodingRefused, Taken, Verdict, Wrong
from relay.doctor.dialling import Line, Target, dial
from relay.doctor.exchange import Reply, Secrets, ask, masked
from relay.doctor.payload import ProbeSpan, body_of
from relay.doctor.read_back import READ_BACK_SECONDS, read_back
from relay.doctor.report import EncodingName, Recorder, Report, Step, StepFailed, StepName
from relay.model.errors import ConfigError
from relay.model.records import Encoding
from relay.otlp.compression import gzip_level_1
from relay.upstream.request_head import request_head

__all__ = ["Report", "Step", "refused", "test_configured", "test_connection"]

_OF_ONE_ANSWER: tuple[StepName, ...] = ("http", "auth", "encoding", "request")
_WORDS = {Encoding.JSON: "JSON", Encoding.PROTOBUF: "protobuf"}
_NAMES: dict[Encoding, EncodingName] = {Encoding.JSON: "json", Encoding.PROTOBUF: "protobuf"}


async def test_connection(  # noqa: PLR0913 - all but the destination have defaults
    destination: DestinationConfig,
    *,
    headers: Mapping[str, str],
    preset: Preset | None = None,
    send_span: bool = False,
    own_addresses: Sequence[ListenAddress] = (),
    own_id: str = "",
    on_step: Callable[[Step], None] | None = None,
    environ: Mapping[str, str] | None = None,
    read_back_seconds: float = READ_BACK_SECONDS,
) -> Report:
    """Test one destination with these `headers`, secrets filled in. Changes nothing here.

    Never raises for what the network or the configuration do: that is in the report. A step is
    told to `on_step` as soon as it is known. `own_addresses` are those of this relay's ingest and
    `own_id` what it adds to `otlp-relay-hops`: both reveal a loop. `environ`, by default the
    process's, resolves a proxy's secrets. Each of name, TCP and TLS may take ten seconds, and each
    request the destination's timeout.
    """
    record = Recorder(on_step)
    try:
        target = Target.of(destination, os.environ if environ is None else environ)
        if points_at(destination, own_addresses):
            raise loops.own_listener(mask_url(destination.endpoint))
        test = _Test(destination, target, headers, preset, own_addresses, own_id, record)
        encoding = await test.run(send_span=send_span, read_back_seconds=read_back_seconds)
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
    """The test of a destination as it is configured: its preset, its secrets read now."""
    try:
        headers = resolve_headers(destination, environ)
    except ConfigError as error:
        return refused(error)
    return await test_connection(
        destination,
        headers=headers,
        preset=find(destination.preset) if destination.preset else None,
        send_span=send_span,
        own_addresses=own_addresses,
        own_id=own_id,
        on_step=on_step,
        environ=environ,
    )


def refused(error: ConfigError, steps: tuple[Step, ...] = ()) -> Report:
    """The report of a destination that cannot even be tried, as when a secret is not set."""
    remedy = error.hint or "correct the destination, then test it again"
    return Report(steps, passed=False, wrong=error.message, remedy=remedy)


class _Test:
    """One test: what it is about, and the line that the first request goes over."""

    def __init__(
        self,
        destination: DestinationConfig,
        target: Target,
        headers: Mapping[str, str],
        preset: Preset | None,
        own_addresses: Sequence[ListenAddress],
        own_id: str,
        record: Recorder,
    ) -> None:
        self._target = target
        self._headers = headers
        self._preset = preset
        self._own_addresses = own_addresses
        self._own_id = own_id
        self._record = record
        self._secrets: Secrets = masked(headers, target)
        self._is_auto = destination.encoding == "auto"
        self._first = _first_encoding(destination, preset)
        wants_gzip = destination.compression == "gzip"
        is_away = destination.compression == "auto" and not target.is_loopback
        self._gzips = wants_gzip or is_away
        self._line: Line | None = None
        self._proxy = ""

    async def run(self, *, send_span: bool, read_back_seconds: float) -> Encoding:
        """Every step. Raises StepFailed at the first that fails, ConfigError for settings."""
        self._line = await dial(self._target, self._record, self._refuse_loop)
        self._proxy = str(self._line.proxy) if self._line.proxy else ""
        sends_only_spans = send_span and self._preset is not None and self._preset.refuses_empty
        span = ProbeSpan.new() if sends_only_spans else None
        encoding, reply, verdict = await self._settle_encoding(span)
        self._note_answer(reply)
        note = f"{_WORDS[encoding]} was taken"
        if encoding is not self._first:
            note = f"{_WORDS[self._first]} was refused, {_WORDS[encoding]} taken: set it"
        self._record.ok("encoding", note)
        if send_span and span is None:
            span = ProbeSpan.new()
            verdict = await self._send_span(encoding, span)
        self._note_request(verdict, span)
        await self._read_back(span, read_back_seconds)
        return encoding

    def _refuse_loop(self, addresses: Sequence[str], port: int) -> None:
        if loops.leads_home(addresses, port, self._own_addresses):
            raise loops.own_listener(mask_url(self._target.endpoint))

    async def _settle_encoding(
        self, span: ProbeSpan | None
    ) -> tuple[Encoding, Reply, Taken | EmptyRefused]:
        """The encoding that passes, with its answer. Raises StepFailed if none does."""
        first = self._first
        reply, verdict = await self._ask(first, span)
        if isinstance(verdict, Wrong):
            raise await self._failed(verdict, reply, first)
        if not isinstance(verdict, EncodingRefused):
            return first, reply, verdict
        other = Encoding.PROTOBUF if first is Encoding.JSON else Encoding.JSON
        try:
            other_reply, other_verdict = await self._ask(other, span)
        except StepFailed:
            other_reply, other_verdict = reply, verdict
        if isinstance(other_verdict, Taken | EmptyRefused):
            if self._is_auto:
                return other, other_reply, other_verdict
            self._note_before("encoding", reply)
            raise StepFailed(
                "encoding",
                f"{self._target.place} refuses {_WORDS[first]} ({reply.said}) and takes "
                f"{_WORDS[other]}",
                f'set encoding = "{_NAMES[other]}"',
            )
        if isinstance(other_verdict, Wrong):
            raise await self._failed(other_verdict, other_reply, other)
        await self._blame_gzip(first, span)
        self._note_before("encoding", reply)
        raise verdict.failed

    async def _blame_gzip(self, encoding: Encoding, span: ProbeSpan | None) -> None:
        """Raises StepFailed if the body passes once it is not compressed."""
        if not self._gzips:
            return
        self._gzips = False
        reply, verdict = await self._ask(encoding, span)
        if isinstance(verdict, Taken | EmptyRefused):
            self._note_before("encoding", reply)
            raise StepFailed(
                "encoding",
                f"{self._target.place} refuses bodies in gzip and takes plain ones",
                'set compression = "none"',
            )

    async def _ask(self, encoding: Encoding, span: ProbeSpan | None) -> tuple[Reply, Verdict]:
        """One POST and what its answer means. Raises StepFailed when there is no answer."""
        reply = await self._post(self._target, encoding, span)
        return reply, answers.judge(reply, self._asked(self._target, encoding, span))

    def _asked(self, target: Target, encoding: Encoding, span: ProbeSpan | None) -> Asked:
        return Asked(
            endpoint=target.endpoint,
            place=str(target.place),
            encoding=encoding,
            headers=self._headers,
            preset=self._preset,
            has_span=span is not None,
            proxy=self._proxy,
        )

    async def _post(self, target: Target, encoding: Encoding, span: ProbeSpan | None) -> Reply:
        content, coding = body_of(encoding, span), ""
        if self._gzips:
            content, coding = gzip_level_1(content), "gzip"
        head = request_head(
            self._headers,
            host=target.url.netloc.decode("ascii"),
            authorization=self._target.authorization,
            media_type=encoding.media_type,
            length_bytes=len(content),
            content_encoding=coding,
            hops=self._own_id,
        )
        # A connection for each request: half of the servers close it after a refusal.
        line, self._line = self._line, None
        if line is None:
            line = await dial(target, Recorder(), self._refuse_loop)
        try:
            return await ask(line, target, head, content, self._secrets)
        finally:
            await line.aclose()

    async def _failed(self, verdict: Wrong, reply: Reply, encoding: Encoding) -> StepFailed:
        """The failure, its remedy made surer by trying the URL that was meant."""
        failed = verdict.failed
        self._note_before(failed.step, reply)
        if verdict.meant is None:
            return failed
        meant = dataclasses.replace(self._target, endpoint=verdict.meant)
        try:
            answer = await self._post(meant, encoding, None)
        except (StepFailed, ConfigError):
            return failed
        found = answers.judge(answer, self._asked(meant, encoding, None))
        # Whoever asks for credentials or minds the body there is an endpoint, too.
        is_there = not isinstance(found, Wrong) or found.failed.step == "auth"
        if is_there and answer.status < 500:
            remedy = f"did you mean {verdict.meant}? There it answers {answer.status}"
            return StepFailed(failed.step, failed.wrong, remedy, failed.found)
        return failed

    def _note_before(self, step: StepName, reply: Reply) -> None:
        """The steps that this answer has passed before the one that failed."""
        if step in _OF_ONE_ANSWER:
            self._note_answer(reply, _OF_ONE_ANSWER.index(step))

    def _note_answer(self, reply: Reply, steps: int = 2) -> None:
        """Note the first `steps` of http, auth, encoding."""
        server = self._secrets.shown(reply.headers.get("server", ""))[:60]
        found = {
            "http": f"answered {reply.status} {reply.phrase}".rstrip()
            + (f", server: {server}" if server else ""),
            "auth": f"taken: {', '.join(self._headers)}"
            if self._headers
            else "no header is set, and none was asked for",
            "encoding": "was understood",
        }
        for name in _OF_ONE_ANSWER[: min(steps, 3)]:
            self._record.ok(name, found[name])

    async def _send_span(self, encoding: Encoding, span: ProbeSpan) -> Taken:
        reply, verdict = await self._ask(encoding, span)
        if isinstance(verdict, Taken):
            return verdict
        failed = (
            verdict.failed
            if isinstance(verdict, Wrong | EncodingRefused)
            else StepFailed("request", verdict.found, "look into its log")
        )
        wrong = f"an empty request passed, the test span did not: {failed.wrong}"
        raise StepFailed("request", wrong, failed.remedy, reply.said)

    def _note_request(self, verdict: Taken | EmptyRefused, span: ProbeSpan | None) -> None:
        if isinstance(verdict, EmptyRefused):
            self._record.add("request", "skipped", f"{verdict.found}; --span sends a test span")
            return
        found = verdict.found
        if span is not None:
            found = f"{found}, trace {span.trace_id}"
            if self._preset is not None and self._preset.makes_dataset:
                found += "; it may have made a data set of it"
        if verdict.warning:
            self._record.add("request", "warning", f"{found}; {verdict.warning}")
        else:
            self._record.ok("request", found)

    async def _read_back(self, span: ProbeSpan | None, seconds: float) -> None:
        preset = self._preset
        if preset is None or preset.query is None:
            return
        if span is None:
            self._record.add("read_back", "skipped", "only a test span can be read: --span")
            return
        result = await read_back(
            self._target, preset, span.trace_id, self._headers, self._secrets, seconds
        )
        if result.is_there is None:
            self._record.add("read_back", "skipped", result.found)
        elif result.is_there:
            self._record.ok("read_back", result.found)
        else:
            raise StepFailed(
                "read_back",
                f"the test span was taken, and {preset.title} does not show it: {result.found}",
                "look into its log and its storage",
            )


def _first_encoding(destination: DestinationConfig, preset: Preset | None) -> Encoding:
    chosen = destination.encoding
    if chosen == "auto" and preset is not None:
        chosen = preset.encoding
    return Encoding.PROTOBUF if chosen == "protobuf" else Encoding.JSON
