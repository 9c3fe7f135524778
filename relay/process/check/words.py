"""What a sender is told of rejected items and of warnings.

Paths and counts only, never a value of the body: texts of a sender may be broken or secret.
"""

from typing import Final

from relay.otlp.json_values import Findings
from relay.otlp.responses import MAX_MESSAGE_BYTES
from relay.otlp.signals import SignalWire
from relay.otlp.words import cut
from relay.process.check.ids import REASON_WORDS
from relay.process.check.rejections import Rejections

LOGS_HINT: Final = ". This looks like a logs body sent to /v1/traces: logs belong to /v1/logs"

# How each warning is told; {n} is how many times, {where} the first places or names. Keep the
# codes stable: metrics carry them.
WARNING_WORDS: Final = {
    "logs_body": "resourceLogs is no member of a traces request and was ignored: is this a logs"
    " body sent to /v1/traces?",
    "metrics_body": "resourceMetrics is no member of a traces request and was ignored: is this a"
    " metrics body sent to /v1/traces?",
    "snake_case": "{n} keys in snake_case were ignored with all they hold: OTLP/JSON keys are"
    " lowerCamelCase, such as resourceSpans, traceId",
    "enum_name": "{n} enums came as names: OTLP/JSON wants their integers",
    "ids_derived": "{n} spans or links had ids that are not hex of the right length; ids were"
    " derived from them",
    "link_ids_malformed": "{n} links were removed for malformed ids and counted as dropped",
    "end_before_start": "{n} spans end before they start",
    "start_time_missing": "{n} spans have no start time",
    "end_time_missing": "{n} spans have no end time",
    "name_empty": "{n} spans have no name",
    "attribute_key_empty": "{n} attribute lists have an empty key",
    "attribute_key_duplicate": "{n} attribute lists have a key twice",
    "string_index": "{n} uses of a string index, which is for profiles only; kept as sent",
}


def describe(wire: SignalWire, kept: int, rejected: Rejections, findings: Findings) -> str:
    """All that is to be said; empty when there is nothing. Cut at 1 KiB."""
    warnings = findings.warnings
    parts = []
    if rejected:
        parts.append(f"{len(rejected)} of {describe_rejected(wire, rejected, kept)}")
    parts += [
        words.format(n=warnings[code], where=", ".join(findings.places.get(code, ())))
        for code, words in WARNING_WORDS.items()
        if warnings.get(code)
    ]
    return cut("; ".join(parts), MAX_MESSAGE_BYTES)


def describe_rejected(wire: SignalWire, rejected: Rejections, kept: int = 0) -> str:
    """`10 spans rejected: trace id all zero in 2 (path, path), …`."""
    reasons = []
    for reason, number in rejected.counts.items():
        paths = rejected.paths[reason]
        more = ", …" if number > len(paths) else ""
        reasons.append(f"{REASON_WORDS[reason]} in {number} ({', '.join(paths)}{more})")
    total = len(rejected) + kept
    noun = wire.item if total == 1 else wire.items
    return cut(f"{total} {noun} rejected: {', '.join(reasons)}", MAX_MESSAGE_BYTES - 100)
