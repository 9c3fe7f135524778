"""What models and agents did, added up: calls, tokens, cost as it was told, time, errors, tools.

None is what nobody told, never 0. `input_tokens` are whole prompts, `output_tokens` include the
reasoning. Costs are what senders say: there is no price list.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from relay.genai.call import TOKENS
from relay.genai.senders import withheld_words
from relay.genai.steps import Step
from relay.model.records import Signal
from relay.model.units import iso

MOST_GROUPS: Final = 200
MOST_NAMES: Final = 1000
BY: Final[Mapping[str, Callable[[Step], str]]] = {
    "model": lambda step: step.call.model,
    "provider": lambda step: step.call.provider,
    "user": lambda step: step.person or step.user,
    "session": lambda step: step.session,
    "service": lambda step: step.service,
    "agent": lambda step: step.call.agent,
    "tool": lambda step: step.tool,
}
"""By what the steps can be grouped."""

_BUCKETS_MS: Final = (100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000)


class Sums:
    """Adds steps up."""

    def __init__(self) -> None:
        self.calls = self.errors = self.without_cost = self.without_tokens = 0
        self.calls_of_metrics = 0  # without a word of each
        self.tells_calls = False
        self.tokens: dict[str, int] = {}
        self.costs: list[float] = []
        self.latencies: list[float] = []
        self.amounts: Counter[tuple[str, str]] = Counter()
        self.longest_ms: list[float] = []
        self.tools: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.tool_errors = self.prompts = 0
        self.signals: set[Signal] = set()
        self.first_ns = self.last_ns = 0

    @classmethod
    def of(cls, steps: Iterable[Step]) -> "Sums":
        """The sums over steps that `counted` gave."""
        sums = cls()
        for step in steps:
            sums.add(step)
        return sums

    def add(self, step: Step) -> None:
        """Add one."""
        self.signals.add(step.signal)
        self.first_ns = min(filter(None, (self.first_ns, step.at_ns)), default=0)
        self.last_ns = max(self.last_ns, step.at_ns)
        self.prompts += step.kind == "prompt"
        if step.kind in ("call", "error"):
            self.tells_calls = True
            self.errors += step.is_error or step.kind == "error"
        if step.kind == "call":
            self._add_call(step)
        elif step.kind == "tool":
            self.tools[step.tool] += 1
            self.tool_errors += step.is_error
        elif step.kind == "refusal":
            self.refused[step.tool] += 1
        if step.kind in ("call", "latency") and step.latency_ms is not None:
            self.latencies.append(step.latency_ms)
        for amount in step.amounts:
            self._add_amount(*amount)

    def _add_call(self, step: Step) -> None:
        call = step.call
        self.calls += 1
        self.without_tokens += not call.has_tokens
        self.without_cost += call.cost_usd is None and not step.has_cost_elsewhere
        if call.cost_usd is not None:
            self.costs.append(call.cost_usd)
        for name in TOKENS:
            count = getattr(call, name)
            if count is not None:
                self.tokens[name] = self.tokens.get(name, 0) + count

    def _add_amount(self, name: str, kind: str, number: float) -> None:
        if name in TOKENS:
            self.tokens[name] = self.tokens.get(name, 0) + int(number)
        elif name == "cost_usd":
            self.costs.append(number)
        elif name in ("calls", "errors"):
            self.tells_calls = True
            setattr(self, name, getattr(self, name) + int(number))
            self.calls_of_metrics += int(number) if name == "calls" else 0
        elif name == "tool":
            self.tools[kind] += int(number)
        elif name == "tool_error":
            self.tool_errors += int(number)
        elif name == "refusal":
            self.refused[kind] += int(number)
        elif name == "latency_max":
            self.longest_ms.append(number)
        else:
            self.amounts[name, kind] += number  # type: ignore[assignment]

    @property
    def cost_usd(self) -> float | None:
        """What the senders say."""
        return round(math.fsum(self.costs), 12) if self.costs else None

    def tokens_of(self, name: str) -> int | None:
        """How many of a kind; 0 where there were errors alone."""
        is_nothing = (
            self.tells_calls and not self.calls and name in ("input_tokens", "output_tokens")
        )
        return self.tokens.get(name, 0 if is_nothing else None)

    def latency_ms(self) -> dict[str, float | None] | None:
        """How long calls took."""
        count = len(self.latencies) + int(self.amounts["latency_count", ""])
        if not count:
            return None
        total = math.fsum(self.latencies) + self.amounts["latency_sum", ""]
        longest = max((*self.longest_ms, *self.latencies), default=None)
        return {
            "count": count,
            "sum": round(total, 3),
            "max": None if longest is None else round(longest, 3),
        }

    def percentile(self, share: float) -> float | None:
        """The latency that `share` of the calls did not exceed, of those told one by one."""
        found = sorted(self.latencies)
        return found[max(math.ceil(share * len(found)) - 1, 0)] if found else None

    def figures(self) -> dict[str, Any]:
        """What is told of a group as of all."""
        told = self.tells_calls or not self.signals
        without_cost = self.without_cost + (0 if self.costs else self.calls_of_metrics)
        uncached = None
        if (whole := self.tokens_of("input_tokens")) is not None:
            cached = ("cache_read_tokens", "cache_write_tokens")
            uncached = max(whole - sum(self.tokens.get(each, 0) for each in cached), 0)
        return {
            "calls": self.calls if told else None,
            "errors": self.errors if told else None,
            **{name: self.tokens_of(name) for name in TOKENS},
            "uncached_input_tokens": uncached,
            "cost_usd": self.cost_usd,
            "calls_without_cost": without_cost if told else None,
            "calls_without_tokens": self.without_tokens if told else None,
            "latency_ms": self.latency_ms(),
        }


def summary_of(steps: Sequence[Step]) -> dict[str, Any]:
    """The summary of steps that `counted` gave, as JSON has it."""
    sums = Sums.of(steps)
    by_service = {name: own.figures() for name, own in _grouped(steps, "service").items()}
    models = [each for each in _grouped(steps, "model").items() if _has_calls(each[1])]
    words = [signal.word for signal in Signal if signal in sums.signals]
    tells_tools = bool(sums.tools or sums.signals - {Signal.METRICS})
    return {
        "source": ", ".join(words) or None,
        **sums.figures(),
        "latency": {
            "p50": sums.percentile(0.5),
            "p95": sums.percentile(0.95),
            "buckets": _buckets(sums.latencies),
        },
        "models": {name: _model(own) for name, own in models[-MOST_NAMES:]},
        "tools": dict(sums.tools.most_common(MOST_NAMES)) if tells_tools else None,
        "tool_errors": sums.tool_errors if tells_tools else None,
        "tools_refused": dict(sums.refused.most_common(MOST_NAMES)) or None,
        "prompts": sums.prompts or None,
        "sessions": _names(steps, "session"),
        "users": _names(steps, "user"),
        "service": next(iter(by_service)) if len(by_service) == 1 else None,
        "services": {
            name: {each: own[each] for each in ("calls", "input_tokens", "output_tokens")}
            for name, own in list(by_service.items())[-MOST_NAMES:]
        },
        "content": _content(steps),
        "sessions_started": _amount(sums, "sessions_started"),
        "lines": _kinds(sums, "lines"),
        "active_s": _kinds(sums, "active_s"),
    }


def groups_of(steps: Sequence[Step], by: str) -> dict[str, Any]:
    """The steps by what `by` says: rows, those that cost most first, sessions the newest first."""
    if by == "tool":
        rows = [_tool_row(name, own) for name, own in _grouped(steps, by).items() if name]
        rows.sort(key=lambda row: -row["uses"])
    else:
        rows = [_row(name, own) for name, own in _grouped(steps, by).items() if _is_row(name, own)]
        rows.sort(key=lambda row: (-(row["cost_usd"] or 0), -(row["input_tokens"] or 0)))
    if by == "session":
        services = {step.session: step.service for step in steps}
        rows = [row | {"service": services[row["name"]]} for row in rows]
        rows.sort(key=lambda row: row["last_at"] or "", reverse=True)
    return {
        "by": by,
        "groups": rows[:MOST_GROUPS],
        "groups_left_out": max(len(rows) - MOST_GROUPS, 0),
    }


def _grouped(steps: Iterable[Step], by: str) -> dict[str, Sums]:
    name_of = BY[by]
    groups: defaultdict[str, Sums] = defaultdict(Sums)
    for step in steps:
        groups[name_of(step)].add(step)
    return groups


def _has_calls(sums: Sums) -> bool:
    return bool(sums.calls or sums.errors or sums.tokens or sums.costs)


def _is_row(name: str, sums: Sums) -> bool:
    return _has_calls(sums) or bool(name and (sums.tools or sums.prompts))


def _model(sums: Sums) -> dict[str, Any]:
    figures = sums.figures()
    names = ("calls", "errors") if sums.tells_calls else ()
    return {each: figures[each] for each in (*names, "input_tokens", "output_tokens", "cost_usd")}


def _row(name: str, sums: Sums) -> dict[str, Any]:
    return {
        "name": name,
        **sums.figures(),
        "p50_ms": sums.percentile(0.5),
        "p95_ms": sums.percentile(0.95),
        "tool_uses": sums.tools.total(),
        "tool_errors": sums.tool_errors,
        "prompts": sums.prompts or None,
        "first_at": iso(sums.first_ns),
        "last_at": iso(sums.last_ns),
    }


def _tool_row(name: str, sums: Sums) -> dict[str, Any]:
    return {
        "name": name,
        "uses": sums.tools[name],
        "errors": sums.tool_errors,
        "refused": sums.refused[name],
        "last_at": iso(sums.last_ns),
    }


def _names(steps: Iterable[Step], what: str) -> list[str]:
    """Distinct names, in the order in which they were met; of very many the newest."""
    found = [name for name in dict.fromkeys(getattr(step, what) for step in steps) if name]
    return found[-MOST_NAMES:]


def _amount(sums: Sums, name: str) -> float | None:
    found = [number for (of, _kind), number in sums.amounts.items() if of == name]
    return sum(found) if found else None


def _kinds(sums: Sums, name: str) -> dict[str, float] | None:
    return {kind: number for (of, kind), number in sums.amounts.items() if of == name} or None


def _content(steps: Iterable[Step]) -> str | None:
    """Whether prompts came with their text, by what each sender does."""
    prompts: defaultdict[str, bool] = defaultdict(bool)
    calls: defaultdict[str, bool] = defaultdict(bool)
    for step in steps:
        if step.kind in ("call", "prompt"):
            of = prompts if step.kind == "prompt" else calls
            of[step.sender] |= step.has_contents
    words = {
        sender: "recorded" if is_told else "none recorded" for sender, is_told in calls.items()
    } | {
        sender: "recorded" if is_told else withheld_words(sender)
        for sender, is_told in prompts.items()
    }
    if len(words) > 1:
        words = {sender: f"{sender or 'others'}: {said}" for sender, said in words.items()}
    return "; ".join(words.values()) or None


def _buckets(latencies: Sequence[float]) -> list[dict[str, float | None]]:
    """How many calls took at most so many milliseconds, and longer than the bucket before."""
    edges = (*_BUCKETS_MS, None)
    counts = [0] * len(edges)
    for each in latencies:
        counts[sum(each > edge for edge in _BUCKETS_MS)] += 1
    return [{"at_most_ms": edge, "calls": n} for edge, n in zip(edges, counts, strict=True)]
