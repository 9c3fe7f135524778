"""Runs the steps of one destination over a fragment; see the package for the shape."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from relay.config import DestinationConfig
from relay.config.steps import RedactConfig
from relay.model.records import Encoding, Signal
from relay.otlp.messages import AnyValue
from relay.otlp.opened import Group, Opened, keep_marked
from relay.process.sample.kept_traces import KeptTraces
from relay.process.steps.condition import Condition
from relay.process.steps.redact import Redact
from relay.process.steps.reshape import Reshape
from relay.process.steps.sampling import Mark, Sample, Scout

log = structlog.stdlib.get_logger(__name__)


class Filter(Protocol):
    """Says which items are for a destination."""

    name: str
    """What counters and `where` call it."""

    def look(self, opened: Opened) -> None:
        """See all items before any is judged."""
        ...

    def keeps(self, group: Group, item: Any) -> bool:
        """Whether `item` of `group` goes on. Raises nothing."""
        ...


class Edit(Protocol):
    """Changes items and what is around them, in place. Each method tells whether it changed
    anything; whatever it raises takes the items out that are concerned.

    What is around items is changed once, before them, and only if some are left.
    """

    name: str
    gives_up_unknown: bool
    """Whether nothing may be sent of which the schema does not say what it is."""

    def deep(self, value: AnyValue) -> bool:
        """Change a value of JSON that lies so deep that items show only where it was."""
        ...

    def resource(self, group: Group) -> bool:
        """Change the resource of `group`."""
        ...

    def scope(self, group: Group) -> bool:
        """Change its scope, where it has one."""
        ...

    def metric(self, group: Group) -> bool:
        """Change its metric, but for the points."""
        ...

    def item(self, group: Group, item: Any) -> bool:
        """Change one of its items."""
        ...


@dataclass(slots=True)
class Stepped:
    """A fragment after its steps. `fates` has for each item of the original "" if it is in `body`,
    else the name of the filter that spoke against it, or `FAILED` where an edit could not finish.

    `changed` counts items by the edit that changed them or what is around them.
    """

    body: bytes
    items: int
    fates: Sequence[str]
    changed: Counter[str] = field(default_factory=Counter)

    @property
    def filtered(self) -> Counter[str]:
        """How many items were filtered, by filter."""
        return Counter(fate for fate in self.fates if fate and fate != FAILED)

    @property
    def failed(self) -> int:
        """How many items an edit could not finish."""
        return self.fates.count(FAILED)


FAILED = "failed"


class Match:
    """What does not match is not for the destination."""

    name = "match"

    def __init__(self, text: str) -> None:
        self.condition = Condition(text)

    def look(self, opened: Opened) -> None:
        """Nothing: each item is judged by itself."""

    def keeps(self, group: Group, item: Any) -> bool:
        """Whether the condition holds."""
        return self.condition(group, item)


class Steps:
    """All steps of one destination, in order."""

    def __init__(self, filters: Sequence[Filter], edits: Sequence[Edit] = ()) -> None:
        self.filters = tuple(filters)
        self.edits = tuple(edits)

    def run(self, fragment: bytes, encoding: Encoding, signal: Signal) -> Stepped:
        """The fragment as the destination gets it. What nothing is done to is returned as it is.

        Raises TranscodeError when the fragment is not what this relay writes.
        """
        opened = Opened(fragment, encoding, signal)
        fates = self._filter(opened)
        changed: Counter[str] = Counter()
        if self.edits and "" in fates:
            fates = self._edit(opened, fates, changed)
        kept = fates.count("")
        gives_up = encoding is Encoding.PROTOBUF and any(e.gives_up_unknown for e in self.edits)
        is_same = not gives_up and not (self.edits and opened.has_empty)
        if 0 < kept == len(fates) and not changed and is_same:
            return Stepped(fragment, kept, fates)
        if gives_up:
            opened.discard_unknown()
        return Stepped(opened.close() if kept else b"", kept, fates, changed)

    def _filter(self, opened: Opened) -> list[str]:
        """The fate of each item; those that are filtered are taken out."""
        fates: list[str] = []
        for each in self.filters:
            each.look(opened)
        for group in opened.groups:
            own = [self._fate(group, item) for item in group.items]
            fates += own
            if any(own):
                keep_marked(group.items, [not fate for fate in own])
        return fates

    def _fate(self, group: Group, item: Any) -> str:
        for each in self.filters:
            if not each.keeps(group, item):
                return each.name
        return ""

    def _edit(self, opened: Opened, fates: list[str], changed: Counter[str]) -> list[str]:
        """The fates after the edits."""
        rest = iter([at for at, fate in enumerate(fates) if not fate])
        seen: dict[int, frozenset[str] | None] = {}
        deep = [self._try("deep", each) for each in opened.deep]
        if None in deep:  # nobody knows in which item it lies
            return [fate or FAILED for fate in fates]
        if any(deep):
            changed.update(frozenset().union(*(each for each in deep if each)))
        for group in opened.groups:
            places = [next(rest) for _ in group.items]
            around = self._around(opened, group, seen) if places else frozenset()
            outcomes = [
                None if around is None else self._try("item", group, item) for item in group.items
            ]
            for place, outcome in zip(places, outcomes, strict=True):
                if outcome is None or around is None:
                    fates[place] = FAILED
                else:
                    changed.update(outcome | around)
            if None in outcomes:
                keep_marked(group.items, [outcome is not None for outcome in outcomes])
        return fates

    def _around(
        self, opened: Opened, group: Group, seen: dict[int, frozenset[str] | None]
    ) -> frozenset[str] | None:
        """The edits that changed what is around the items of `group`; None where one could not.

        `seen` is what became of what groups share, by identity.
        """
        if id(group.resource) not in seen:
            found = self._try("resource", group)
            seen[id(group.resource)] = found
            if found:
                opened.resource_changed(group)
        if id(group.holder) not in seen:
            seen[id(group.holder)] = self._try("scope", group)
        of_metric = frozenset() if group.metric is None else self._try("metric", group)
        parts = (seen[id(group.resource)], seen[id(group.holder)], of_metric)
        whole = [each for each in parts if each is not None]
        return frozenset().union(*whole) if len(whole) == len(parts) else None

    def _try(self, part: str, *of: Any) -> frozenset[str] | None:
        """The names of the edits that changed `part`; None where one could not finish."""
        changed = set()
        for edit in self.edits:
            try:
                if getattr(edit, part)(*of):
                    changed.add(edit.name)
            except Exception as error:  # noqa: BLE001 - it fails closed
                log.debug("edit_failed", step=edit.name, error=type(error).__name__)
                return None
        return frozenset(changed)

    @property
    def conditions(self) -> dict[str, Condition]:
        """The conditions of the filters, by the filter's name."""
        found = {each.name: getattr(each, "condition", None) for each in self.filters}
        return {name: each for name, each in found.items() if each is not None}


def redacting(config: RedactConfig) -> Steps:
    """Steps that redact and nothing else. Raises ConfigError as `steps_of`."""
    return Steps((), (Redact(config),))


def steps_of(settings: DestinationConfig, scout: Scout | None = None) -> Steps | None:
    """The steps that a destination asks for; None where it asks for none.

    `scout` looks at every row of the destination before the steps are run over it. Without it what
    they are run over is taken for all there is of its traces.

    Raises ConfigError where the key of its hashes can be neither read nor made.
    """
    filters: list[Filter] = []
    edits: list[Edit] = []
    if settings.match:
        filters.append(Match(settings.match))
    if settings.redact:
        edits.append(Redact(settings.redact))
    if settings.attributes:
        edits.append(Reshape(settings.attributes))
    if settings.is_sampled:
        ratio, sees_all = settings.sample.ratio, scout is None
        if scout is None and settings.sample.keeps_whole:
            scout = Scout(Condition(settings.sample.keep), KeptTraces())
        filters.append(Sample(ratio, scout, sees_all=sees_all))
        edits.append(Mark(ratio, scout))
    return Steps(filters, edits) if filters or edits else None
