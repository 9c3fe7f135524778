"""What the line of a trace says of its calls of models: which, tokens, and cost as sent. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from relay.genai.counted import counted
from relay.genai.items import Around, SpanItem
from relay.genai.kinds import CLAUDE_NAMES, kind_of
from relay.genai.names import SPAN_KEYS
from relay.genai.steps import Step, span_steps
from relay.genai.values import added, attributes_of
from relay.view.items import Placed

_MOST_MODELS: Final = 5
_MOST_CHARACTERS: Final = 200


def genai_facts(spans: Sequence[Placed]) -> dict[str, Any]:
    """What the spans of a trace say, each once."""
    return facts_of(step for each in spans if (step := step_of(each)))


def step_of(placed: Placed) -> Step | None:
    """What a span says of a call of a model; None for one that is nothing of it."""
    return next(span_steps((_item(placed),)), None) if _may_be_step(placed) else None


def facts_of(steps: Iterable[Step]) -> dict[str, Any]:
    """`genai` is None for a trace without a call. What nobody told is None, never 0."""
    calls = [step.call for step in counted(steps) if step.kind == "call"]
    if not calls:
        return {"genai": None}
    models = dict.fromkeys(call.model[:_MOST_CHARACTERS] for call in calls if call.model)
    return {
        "genai": {
            "calls": len(calls),
            "models": list(models)[:_MOST_MODELS],
            "input_tokens": added(call.input_tokens for call in calls),
            "output_tokens": added(call.output_tokens for call in calls),
            "cost_usd": added(call.cost_usd for call in calls),
        }
    }


def is_step(placed: Placed) -> bool:
    """Whether a span is of a call of a model: the call, a tool, or a step around those."""
    return _may_be_step(placed) and kind_of(_item(placed)) is not None


def _may_be_step(placed: Placed) -> bool:
    """Whether `kind_of` may say so: most spans are none, and are not read for it."""
    span = placed.record
    return span.name.startswith(CLAUDE_NAMES) or any(
        each.key.startswith(SPAN_KEYS) for each in span.attributes
    )


def _item(placed: Placed) -> SpanItem:
    source = placed.source
    resource = attributes_of(source.resource.attributes)
    around = Around(service=placed.service, scope=source.scope.name, resource=resource)
    return SpanItem(around, placed.record, attributes_of(placed.record.attributes))
