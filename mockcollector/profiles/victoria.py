"""VictoriaMetrics and VictoriaLogs; a profile out of each function."""

from mockcollector.profiles.parts import PROTOBUF_ONLY, Profile
from mockcollector.rules import (
    Cause,
    Check,
    ErrorForm,
    IdRule,
    Payload,
    Refused,
    Rules,
    Wording,
)
from mockcollector.signals import Signal

_UNKNOWN = (
    "what it makes of a Content-Type that is neither: here it is refused as JSON is",
    "what stands around the words of a refusal",
)


def victoria_metrics() -> Profile:
    """Metrics at /opentelemetry/v1/metrics, protobuf only: JSON is a 400."""
    return Profile(
        {Signal.METRICS: _rules("/opentelemetry/v1/metrics", _check_names)}, {}, _UNKNOWN
    )


def victoria_logs() -> Profile:
    """Logs at /insert/opentelemetry/v1/logs, protobuf only: JSON is a 400."""
    return Profile(
        {Signal.LOGS: _rules("/insert/opentelemetry/v1/logs", _check_severities)}, {}, _UNKNOWN
    )


def _rules(path: str, check: Check) -> Rules:
    words = "json encoding isn't supported for opentelemetry format. Use protobuf encoding"
    return Rules(
        path=path,
        media_types=PROTOBUF_ONLY,
        ids=IdRule.ANY,
        takes_invalid_points=True,
        checks=(check,),
        errors=ErrorForm.TEXT,
        bare_success=True,
        wordings={Cause.MEDIA_TYPE: Wording(400, words)},
    )


def _check_names(payload: Payload) -> None:
    for resource in getattr(payload.message, "resource_metrics", ()):
        for scope in resource.scope_metrics:
            if any(not metric.name for metric in scope.metrics):
                raise Refused(400, "missing metric name", cause=Cause.CONTENT)


def _check_severities(payload: Payload) -> None:
    """A negative severity fails the whole request."""
    for resource in getattr(payload.message, "resource_logs", ()):
        for scope in resource.scope_logs:
            if any(record.severity_number < 0 for record in scope.log_records):
                raise Refused(400, "cannot parse severityNumber", cause=Cause.CONTENT)
