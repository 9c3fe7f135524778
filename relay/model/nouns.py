"""Counts things in words: `1 span`, `2 log records`, `412 spans, 90 log records`."""

from collections.abc import Collection, Mapping

from relay.model.records import Signal


def counted(number: int, noun: str) -> str:
    """So many of them, such as `1 span` or `1,200 spans`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def noun_of(signals: Collection[str]) -> str:
    """What one item of `signals` is called, by their words; of several signals it is an item."""
    return Signal.of(*signals).item if len(signals) == 1 else "item"


def counted_items(number: int, *signals: str) -> str:
    """So many items of `signals`, by the name that those of one signal have."""
    return counted(number, noun_of(signals))


def listed_items(numbers: Mapping[str, int]) -> str:
    """How many items of each signal, by its word; those of which there are none are left out.

    Of none at all `0 spans`.
    """
    found = [counted_items(number, signal) for signal, number in numbers.items() if number]
    return ", ".join(found) or counted_items(0, *list(numbers)[:1])
