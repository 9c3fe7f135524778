"""What a sender is told of rejected items and of warnings.

Paths and counts only, never a value of the body: texts of a sender may be broken or secret.
"""

from typing import Final

from relay.model.records import Encoding
from relay.otlp.json_values import Findings
from relay.otlp.responses import MAX_MESSAGE_BYTES
from relay.otlp.signals import WIRE, SignalWire
from relay.otlp.words import cut
from relay.process.check.ids import REASON_WORDS
from relay.process.check.rejections import Rejections

# How each warning is told; {n} is how many times, {where} the first places or names. Keep the
# codes stable: metrics carry them.
WARNING_WORDS: Final = {
    f"{other.signal.name.lower()}_body": f"{other.lists[Encoding.JSON].entries} is no member of a"
    f" {{signal}} request and was ignored: is this a {other.signal.name.lower()} body sent to"
    f" {{path}}? It belongs to {other.path}"
    for other in WIRE.values()
} | {
    "snake_case": "{n} keys in snake_case were ignored with all they hold ({where}): OTLP/JSON keys"
    " are lowerCamelCase, such as resourceSpans, traceId",
    "unknown_key": "{n} keys that OTLP does not know were ignored with all they hold ({where})",
    "utf8_broken": "text that is not UTF-8 was replaced by U+FFFD",
    "value_unreadable": "{n} values could not be read and are empty ({where})",
    "attribute_unreadable": "{n} attributes could not be read and were left out ({where})",
    "event_unreadable": "events that could not be read ({n}): left out ({where})",
    "link_unreadable": "links that could not be read ({n}): left out ({where})",
    "exemplar_unreadable": "{n} exemplars could not be read and were left out ({where})",
    "envelope_unreadable": "{n} members of a resource, scope or metric could not be read and were"
    " left out ({where})",
    "int_as_double": "{n} integers that are none in 64 bits became doubles ({where})",
    "enum_name": "{n} enums came as names: OTLP/JSON wants their integers",
    "ids_derived": "{n} spans, links or log records had ids that are not hex of the right length;"
    " ids were derived from them",
    "link_ids_malformed": "{n} links were removed for malformed ids and counted as dropped",
    "end_before_start": "{n} spans end before they start",
    "start_time_missing": "{n} spans have no start time",
    "end_time_missing": "{n} spans have no end time",
    "name_empty": "{n} spans have no name",
    "attribute_key_empty": "{n} attribute lists have an empty key",
    "attribute_key_duplicate": "{n} attribute lists have a key twice",
    "string_index": "{n} uses of a string index, which is for profiles only; kept as sent",
    "log_ids_malformed": "ids of log records that are not hex of the right length ({n}): taken out"
    " and kept as attributes relay.original_trace_id, relay.original_span_id",
    "metric_kind_unknown": "metrics without points of a kind that is known here ({n}): left out",
    "temporality_unspecified": "metrics that do not say their aggregation temporality ({n}): kept"
    " as sent",
    "histogram_shape": "points whose buckets do not fit their bounds or count ({n}): kept as sent",
    "exemplar_ids_malformed": "exemplars whose ids are not hex of the right length ({n}): ids"
    " cleared",
    "exemplar_without_value": "exemplars without a value ({n}): removed",
    "time_in_seconds": "times that seem to be in seconds ({n}): OTLP wants nanoseconds since 1970",
    "time_in_milliseconds": "times that seem to be in milliseconds ({n}): OTLP wants nanoseconds"
    " since 1970",
    "time_in_microseconds": "times that seem to be in microseconds ({n}): OTLP wants nanoseconds"
    " since 1970",
    "time_before_2000": "times before the year 2000 ({n})",
    "time_old": "times more than 7 days ago ({n}): some destinations refuse such items",
    "time_ahead": "times more than an hour ahead of this host's clock ({n})",
}

_MOST_REASON_BYTES: Final = MAX_MESSAGE_BYTES - 100  # so that warnings have some, too
# A body of which something was ignored, and that held no item then, was meant otherwise.
_SAY_WHAT_WAS_IGNORED: Final = frozenset(
    ("snake_case", "unknown_key", *(f"{signal.name.lower()}_body" for signal in WIRE))
)


def describe(wire: SignalWire, kept: int, rejected: Rejections, findings: Findings) -> str:
    """All that is to be said; empty when there is nothing. Cut at 1 KiB."""
    warnings = findings.warnings
    parts = []
    if rejected:
        parts.append(f"{len(rejected)} of {describe_rejected(wire, rejected, kept)}")
    elif not kept and findings.top_keys and not _SAY_WHAT_WAS_IGNORED.isdisjoint(warnings):
        keys = ", ".join(findings.top_keys)
        parts.append(f"no {wire.item} was found in it; keys at the top: {keys}")
    parts += [
        words.format(
            n=warnings[code],
            where=", ".join(findings.places.get(code, ())),
            signal=wire.signal.name.lower(),
            path=wire.path,
        )
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
    return cut(f"{total} {noun} rejected: {', '.join(reasons)}", _MOST_REASON_BYTES)
