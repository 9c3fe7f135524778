"""What the steps of a destination are, in the order in which they run: for people and machines."""

from collections.abc import Iterator
from typing import Any

import msgspec

from relay.config import Config, DestinationConfig
from relay.config.steps import RedactConfig
from relay.model.units import format_duration


def steps_of_process(config: Config) -> list[dict[str, Any]]:
    """Those of `[process]`: what is done before anything is kept."""
    process = config.process
    steps: list[dict[str, Any]] = []
    if process.drop:
        steps.append({"step": "drop", "condition": process.drop})
    if process.redact:
        steps.append(_redact(process.redact))
    return steps


def steps_of_destination(destination: DestinationConfig) -> list[dict[str, Any]]:
    """Those of a destination; empty where it gets everything as it is."""
    steps: list[dict[str, Any]] = []
    if destination.match:
        steps.append({"step": "match", "condition": destination.match})
    if destination.is_sampled:
        sample = destination.sample
        step = {"step": "sample", "ratio": sample.ratio}
        if sample.keeps_whole:
            step |= {"keep": sample.keep, "wait_seconds": sample.wait_seconds}
        steps.append(step)
    if destination.redact:
        steps.append(_redact(destination.redact))
    if destination.attributes:
        steps.append({"step": "attributes", **msgspec.to_builtins(destination.attributes)})
    return steps


def _redact(config: RedactConfig) -> dict[str, Any]:
    return {
        "step": "redact",
        "keys": list(config.keys),
        "patterns": list(config.patterns),
        "with": config.replace_with,
    }


def lines_of(steps: list[dict[str, Any]]) -> Iterator[str]:
    """A line for each step, numbered."""
    for number, step in enumerate(steps, 1):
        yield f"{number}. {step['step']:<10} {_words(step)}"


def _words(step: dict[str, Any]) -> str:
    if "condition" in step:
        return f"{'not ' if step['step'] == 'drop' else ''}{' '.join(step['condition'].split())}"
    if step["step"] == "sample":
        words = f"{step['ratio']:.6g} of all traces"
        if "keep" in step:
            wait = format_duration(step["wait_seconds"])
            words += f", and all of a trace with a span of {' '.join(step['keep'].split())} "
            words += f"(waits {wait})"
        return words
    if step["step"] == "redact":
        parts = [f"{name} {', '.join(step[name])}" for name in ("keys", "patterns") if step[name]]
        return f"{'; '.join(parts)}; with {step['with']}"
    parts = [f"delete {', '.join(step['delete'])}"] if step["delete"] else []
    parts += [f"rename {old} to {new}" for old, new in step["rename"].items()]
    parts += [f"set {key} to {value!r}" for key, value in step["set"].items()]
    return "; ".join(parts)
