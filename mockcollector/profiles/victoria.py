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

_UNKNOWN = ("it reads a body of any other Content-Type as protobuf: refused as JSON here",)
_METRICS = "cannot decode OpenTelemetry protocol data: "
_LOGS = "cannot read OpenTelemetry protocol data: "


def victoria_metrics() -> Profile:
    """Metrics at /opentelemetry/v1/metrics, protobuf only: JSON is a 400."""
    return Profile(
        {Signal.METRICS: _rules("/opentelemetry/v1/metrics", _check_names, _METRICS)}, {}, _UNKNOWN
    )


def victoria_logs() -> Profile:
    """Logs at /insert/opentelemetry/v1/logs, protobuf only: JSON is a 400."""
    return Profile(
        {Signal.LOGS: _rules("/insert/opentelemetry/v1/logs", _check_severities, _LOGS)},
        {},
        _UNKNOWN,
    )


def _rules(path: str, check: Check, prefix: str) -> Rules:
    words = "json encoding isn't supported for opentelemetry format. Use protobuf encoding"
    return Rules(
        path=path,
        media_types=PROTOBUF_ONLY,
        ids=IdRule.ANY,
        takes_invalid_points=True,
        checks=(check,),
        errors=ErrorForm.TEXT,
        bare_success=True,
        wordings={
            Cause.PATH: Wording(400, "unsupported path requested"),
            Cause.MEDIA_TYPE: Wording(400, words),
            Cause.CODING: Wording(400, f"{prefix}unsupported contentType"),
            Cause.BODY: Wording(400, f"{prefix}{{message}}"),
            Cause.CONTENT: Wording(400, f"{prefix}{{message}}"),
        },
    )


def _check_names(payload: Payload) -> None:
    for resource in getattr(payload.message, "resource_metrics", ()):
        for scope in resource.scope_metrics:
            if any(not metric.name for metric in scope.metrics):
                raise Refused(
                    400, "cannot unmarshal Metric: missing metric name", cause=Cause.CONTENT
                )


def _check_severities(payload: Payload) -> None:
    """A negative severity fails the whole request."""
    for resource in getattr(payload.message, "resource_logs", ()):
        for scope in resource.scope_logs:
            if any(record.severity_number < 0 for record in scope.log_records):
                raise Refused(
                    400, "cannot decode LogRecord: cannot read severity number", cause=Cause.CONTENT
                )
