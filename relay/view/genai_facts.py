"""What the line of a trace says of its calls of models: which, tokens, and cost as sent. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from relay.genai.counted import calls_of_spans
from relay.genai.items import Around, SpanItem
from relay.genai.kinds import kind_of
from relay.genai.values import attributes_of
from relay.view.items import Placed

_MOST_MODELS: Final = 5
_MOST_CHARACTERS: Final = 200


def genai_facts(spans: Sequence[Placed]) -> dict[str, Any]:
    """`genai` is None for a trace without a call. What nobody told is None, never 0."""
    calls = calls_of_spans(map(_item, spans))
    if not calls:
        return {"genai": None}
    models = dict.fromkeys(call.model[:_MOST_CHARACTERS] for call in calls if call.model)
    return {
        "genai": {
            "calls": len(calls),
            "models": list(models)[:_MOST_MODELS],
            "input_tokens": _sum(call.input_tokens for call in calls),
            "output_tokens": _sum(call.output_tokens for call in calls),
            "cost_usd": _sum(call.cost_usd for call in calls),
        }
    }


def is_step(placed: Placed) -> bool:
    """Whether a span is of a call of a model: the call, a tool, or a step around those."""
    return kind_of(_item(placed)) is not None


def _item(placed: Placed) -> SpanItem:
    source = placed.source
    resource = attributes_of(source.resource.attributes)
    around = Around(service=placed.service, scope=source.scope.name, resource=resource)
    return SpanItem(around, placed.record, attributes_of(placed.record.attributes))


def _sum(numbers: Iterable[float | None]) -> float | None:
    told = [number for number in numbers if number is not None]
    return sum(told) if told else None
