"""Loki's OTLP endpoint: some of a request stored, the rest refused with a 400."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mockcollector.items import ReceivedLogRecord, flatten
from mockcollector.profiles.parts import Profile, tenant
from mockcollector.rules import (
    Cause,
    ErrorForm,
    IdRule,
    Payload,
    Refused,
    Rules,
    TypeMatch,
    Wording,
)
from mockcollector.signals import Signal

_SECOND_NS = 1_000_000_000
_MAX_AGE_NS = 7 * 24 * 3600 * _SECOND_NS
_MAX_AHEAD_NS = 600 * _SECOND_NS
_MAX_BEHIND_NS = 3600 * _SECOND_NS
_MAX_LINE_BYTES = 256 * 1024
_MAX_METADATA = 128
_LABELS = (
    "cloud.availability_zone",
    "cloud.region",
    "container.name",
    "deployment.environment",
    "deployment.environment.name",
    "k8s.cluster.name",
    "k8s.container.name",
    "k8s.cronjob.name",
    "k8s.daemonset.name",
    "k8s.deployment.name",
    "k8s.job.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.replicaset.name",
    "k8s.statefulset.name",
    "service.instance.id",
    "service.name",
    "service.namespace",
)


def loki(*, multitenancy: bool = False) -> Profile:
    """Logs at /otlp/v1/logs; 204; a 400 for entries that it cannot keep, and the others are kept.

    It refuses entries over a week old, ten minutes ahead, an hour behind the newest of their
    stream, lines over 256 KiB and over 128 attributes. An error is a Status as octet-stream.
    """
    rules, headers = tenant(Wording(401, "no org id"), is_needed=multitenancy)
    return Profile(
        {Signal.LOGS: loki_rules(header_rules=rules)},
        headers,
        (
            "limits of 64 KB of attributes and of 15 labels: not here",
            "that the same entry again is not stored twice: it counts as accepted again here",
        ),
    )


def loki_rules(**changes: Any) -> Rules:
    """How Loki, and Grafana Cloud with it, takes logs."""
    return Rules(
        path="/otlp/v1/logs",
        type_match=TypeMatch.EXACT,
        codings=("gzip",),
        ids=IdRule.SIZED,
        checks=(_Streams().push,),
        errors=ErrorForm.OCTETS,
        success_status=204,
        bare_success=True,
        wordings={
            Cause.PATH: Wording(404, body="404 page not found\n"),
            Cause.MEDIA_TYPE: Wording(400, "content type is not supported"),
            Cause.CODING: Wording(400, "Content-Encoding not supported"),
        },
        **changes,
    )


class _Streams:
    """The newest time of each stream: of all records whose resources have the same labels."""

    def __init__(self) -> None:
        self._newest_ns: dict[str, int] = {}

    def push(self, payload: Payload) -> None:
        """Store what can be stored; refuse the request for the rest, in the words of the first."""
        now_ns = time.time_ns()
        stored: list[int] = []
        words = ""
        for at, record in enumerate(flatten(payload.message, 0)):
            if not isinstance(record, ReceivedLogRecord):
                continue
            error = self._error_of(record, now_ns)
            words = words or error
            if not error:
                stored.append(at)
        if words:
            raise Refused(400, words, cause=Cause.CONTENT, stored=stored)

    def _error_of(self, record: ReceivedLogRecord, now_ns: int) -> str:
        stream = _labels(record.resource.attributes)
        at_ns = record.time_unix_nano or record.observed_time_unix_nano or now_ns
        if at_ns < now_ns - _MAX_AGE_NS:
            oldest = _rfc3339(now_ns - _MAX_AGE_NS)
            return (
                f"entry for stream '{stream}' has timestamp too old: {_rfc3339(at_ns)},"
                f" oldest acceptable timestamp is: {oldest}"
            )
        if at_ns > now_ns + _MAX_AHEAD_NS:
            return f"entry for stream '{stream}' has timestamp too new: {_rfc3339(at_ns)}"
        size_bytes = len(str(record.body or "").encode())
        if size_bytes > _MAX_LINE_BYTES:
            return (
                f"Max entry size '{_MAX_LINE_BYTES}' bytes exceeded for stream '{stream}'"
                f" while adding an entry with length '{size_bytes}' bytes"
            )
        if len(record.attributes) > _MAX_METADATA:
            return (
                f"stream '{stream}' has too many structured metadata labels:"
                f" '{len(record.attributes)}', limit: '{_MAX_METADATA}'."
            )
        newest_ns = self._newest_ns.get(stream, at_ns)
        if at_ns < newest_ns - _MAX_BEHIND_NS:
            return (
                f"entry with timestamp {_rfc3339(at_ns)} ignored, reason: 'entry too far behind,"
                f" entry timestamp is: {_rfc3339(at_ns)}, oldest acceptable timestamp is:"
                f" {_rfc3339(newest_ns - _MAX_BEHIND_NS)}'"
            )
        self._newest_ns[stream] = max(newest_ns, at_ns)
        return ""


def _labels(resource: Mapping[str, Any]) -> str:
    pairs = [f'{key.replace(".", "_")}="{resource[key]}"' for key in _LABELS if key in resource]
    return "{" + ", ".join(pairs or ['service_name="unknown_service"']) + "}"


def _rfc3339(at_ns: int) -> str:
    seconds = min(at_ns // _SECOND_NS, 253_402_300_799)  # the last of the year 9999
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
