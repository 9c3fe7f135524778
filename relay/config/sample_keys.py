"""Which keys `[destinations.NAME.sample]` has, how each is read, and the rules between them."""

from relay.config import DestinationConfig
from relay.config.fields import Key, duration, fraction
from relay.config.sample import SampleConfig
from relay.config.step_keys import condition
from relay.config.tables import Reading, read_table
from relay.model.records import Signal
from relay.model.units import format_duration

SAMPLE_KEYS = {
    "ratio": Key("ratio", fraction),
    "keep": Key("keep", condition),
    "wait": Key("wait_seconds", duration(may_be_zero=False)),
}


def read_sample(
    raw: object, table: str, where: str, signals: tuple[Signal, ...], reading: Reading
) -> SampleConfig:
    """The table of a destination that gets `signals`; what is wrong is noted."""
    before = len(reading.problems)
    sample = SampleConfig(**read_table(raw, SAMPLE_KEYS, table, where, reading))
    if len(reading.problems) > before:
        return sample
    if sample.keep and not sample.is_on:
        reading.add(
            "is without effect: every trace is sent anyway",
            f"{table}.keep",
            where,
            hint="set ratio to the share of all other traces that is to be sent, such as 0.1, or 0 "
            "for none",
        )
    elif sample.keep and Signal.TRACES not in signals:
        reading.add(
            "looks at spans, and this destination gets none",
            f"{table}.keep",
            where,
            hint='add "traces" to its signals, or leave keep out',
        )
    elif sample.is_on and signals == (Signal.METRICS,):
        reading.add(
            "is for traces and their log records; metrics are not sampled, since a sum without "
            "some of its points is wrong",
            table,
            where,
            hint="leave it out",
        )
    return sample


def check_wait(view: DestinationConfig, table: str, where: str, reading: Reading) -> None:
    """Note where what waits would be too old to be sent when it has waited."""
    sample, most = view.sample, view.max_age_seconds
    if view.is_sampled and sample.keeps_whole and most is not None and most <= sample.wait_seconds:
        age = f"max_age ({format_duration(most)})"
        reading.add(
            f"is not shorter than {age}: everything would be too old when it has waited",
            f"{table}.wait",
            where,
            hint="shorten wait, or set a longer max_age",
        )
