"""Makes HTML of documents: the templates, and how numbers, times and series are written in them.

Everything that a document holds is escaped. There are no styles in it, since the page's policy
forbids them: bars and lines are SVG, placed by attributes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec
from jinja2 import Environment, PackageLoader, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from relay.model.units import about_bytes, about_duration, three_figures

MOST_JSON_CHARACTERS: Final = 200_000
_SPARK_HEIGHT: Final = 20.0


def duration(ns: float | None) -> str:
    """A duration of nanoseconds; a dash for what nobody told."""
    return three_figures(ns) if isinstance(ns, int | float) else "-"


def milliseconds(ms: float | None) -> str:
    """The same of milliseconds."""
    return duration(ms * 1e6) if isinstance(ms, int | float) else "-"


def number(value: float | None) -> str:
    """A number with thousands apart; a dash for what nobody told."""
    if not isinstance(value, int | float):
        return "-"
    if isinstance(value, int) or (math.isfinite(value) and value == int(value)):
        return f"{int(value):,}"
    return f"{value:,.4g}"


def rate(values: Sequence[float], step_seconds: float = 10) -> str:
    """Items a second over the last minute that is over, such as `120` or `0.4`."""
    last = values[-7:-1] or values[-1:]
    found = sum(last) / (len(last) * step_seconds) if last else 0.0
    return f"{found:,.0f}" if found >= 10 or not found else f"{found:.1f}"


def money(value: float | None) -> str:
    """US dollars with every figure that was sent; a dash where no cost was sent."""
    if not isinstance(value, int | float):
        return "-"
    return f"${value:,.2f}" if value >= 100 else "$" + f"{value:.12f}".rstrip("0").rstrip(".")


def time_of(iso: str | None) -> Markup:
    """A moment for people; the page shows it in the time of whoever looks."""
    if not iso:
        return Markup("-")
    return Markup('<time datetime="{}">{}</time>').format(iso, iso[11:19])


def spark(values: Sequence[float | None]) -> Markup:
    """A line of a series. The numbers stand beside it, so that it need not be read."""
    shown = [value if value is not None and math.isfinite(value) else 0.0 for value in values[-60:]]
    if len(shown) < 2:
        return Markup("")
    low, high = min(0.0, *shown), max(shown)
    size = (high - low) or 1.0
    points = " ".join(
        f"{at * 100 / (len(shown) - 1):.1f},"
        f"{_SPARK_HEIGHT - 1 - (value - low) / size * (_SPARK_HEIGHT - 2):.1f}"
        for at, value in enumerate(shown)
    )
    return Markup(
        '<svg class="spark" viewBox="0 0 100 20" preserveAspectRatio="none" aria-hidden="true">'
        '<polyline points="{}"/></svg>'
    ).format(points)


def percent(part: float, whole: float) -> str:
    """A share for an attribute of SVG: `12.5%`, never outside of the whole."""
    return f"{min(max(part / whole, 0.0), 1.0) * 100:.3f}%" if whole > 0 else "0%"


def pretty(value: Any) -> str:
    """A document as JSON to read, cut where nobody reads on."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    return text[:MOST_JSON_CHARACTERS]


def segment(text: str) -> str:
    """A name as a part of a path."""
    return quote(text, safe="")


@pass_context
def query(context: Context, **changes: Any) -> str:
    """The query of what is shown with these changes; None takes a parameter away."""
    asked = {**context["asked"], **changes}
    left = {key: value for key, value in asked.items() if value not in (None, "")}
    return f"?{urlencode(left)}" if left else "?"


_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("relay.page"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_ENVIRONMENT.filters |= {
    "duration": duration,
    "ms": milliseconds,
    "number": number,
    "rate": rate,
    "money": money,
    "time": time_of,
    "spark": spark,
    "bytes": about_bytes,
    "seconds": about_duration,
    "pretty": pretty,
    "segment": segment,
}
_ENVIRONMENT.globals |= {"query": query, "percent": percent}


def render(template: str, asked: Mapping[str, str], **document: Any) -> str:
    """A template with a document; `asked` is the query that it answers."""
    return _ENVIRONMENT.get_template(template).render(asked=asked, **document)
