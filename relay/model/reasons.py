"""Why spans are dead letters, and limits that several rooms share. A leaf.

The values of Reason are an interface: they stand in the database, in JSON, in metrics and behind
`dead-letter list --reason`.
"""

import enum
from typing import Final

# A row on disk holds whole requests up to this; a larger request is cut at item borders.
ROW_BYTES: Final = 512 * 1024

# Of whole bodies that nobody could read the newest few are dead letters: at most 1 MiB of them.
UNREADABLE_BODIES: Final = 20
UNREADABLE_BODY_BYTES: Final = 1024 * 1024 // UNREADABLE_BODIES


class Reason(enum.StrEnum):
    """Why a span is a dead letter."""

    # Refused on the way in: it cannot be read, or the span has no id that OTLP allows.
    VALUE_MALFORMED = "value_malformed"
    TRACE_ID_MISSING = "trace_id_missing"
    TRACE_ID_ZERO = "trace_id_zero"
    TRACE_ID_MALFORMED = "trace_id_malformed"
    SPAN_ID_MISSING = "span_id_missing"
    SPAN_ID_ZERO = "span_id_zero"
    SPAN_ID_MALFORMED = "span_id_malformed"
    PARENT_SPAN_ID_MALFORMED = "parent_span_id_malformed"
    # Refused on the way in: something else of the item is not what its signal allows.
    VALUE_MISSING = "value_missing"  # of a data point
    TIME_MISSING = "time_missing"  # of a data point
    METRIC_NAME_EMPTY = "metric_name_empty"  # no data point can be told from others
    BODY_UNREADABLE = "body_unreadable"  # of a whole request: there are no spans to speak of
    # Not delivered.
    UPSTREAM_REFUSED = "upstream_refused"
    UPSTREAM_PARTIAL = "upstream_partial"  # some of these spans, upstream does not say which
    TOO_LARGE = "too_large"  # for this upstream, alone
    TOO_OLD = "too_old"  # for the destination's `max_age`
    TEMPORALITY = "temporality"  # cumulative or delta, and the destination takes the other
    STEP_FAILED = "step_failed"  # it could not be redacted or changed for the destination
    RELAY_ERROR = "relay_error"  # an exception of ours
    DAMAGED_ON_DISK = "damaged_on_disk"
