"""A condition over items: CEL, compiled once, which never raises.

What fails on an item (a key that is not there, types that do not go together) counts as false, is
counted, and is kept once to be shown.
"""

from typing import Any

from relay.config.conditions import Expression, compile_condition
from relay.model.records import Encoding, Signal
from relay.otlp.opened import Group
from relay.process.steps.view import Read, reader_of

_AROUND = {"signal", "resource", "scope"}


class Condition:
    """Whether an item is meant. `failures` counts those for which it could not be told, `failure`
    says why the first of them could not, without a word of what it holds.
    """

    def __init__(self, text: str) -> None:
        """Raises ConfigError, as `compile_condition`."""
        self.expression: Expression = compile_condition(text)
        self.failures = 0
        self.failure = ""
        self._readers: dict[tuple[Encoding, Signal], list[tuple[str, Read]]] = {}
        self._is_around = _AROUND.issuperset(self.expression.variables)
        self._names = {key for keys in self.expression.keys.values() for key in keys}

    @property
    def text(self) -> str:
        """As it was written."""
        return self.expression.source

    def __call__(self, group: Group, item: Any) -> bool:
        """Whether it holds for `item` of `group`."""
        if not self._is_around:
            return self._holds(group, item)
        held = group.known.get(self)
        if held is None:  # the same for all of a group
            held = group.known[self] = self._holds(group, item)
        return held

    def _holds(self, group: Group, item: Any) -> bool:
        try:
            held = self._evaluate(group, item)
        except KeyError as error:
            key = str(error.args[0]) if error.args else ""
            return self._failed(f"there is no {key}" if key in self._names else "a key is missing")
        except TypeError:
            return self._failed("the types of its values do not go together")
        except Exception as error:  # noqa: BLE001 - one item must not stop the others
            return self._failed(f"it cannot be told ({type(error).__name__})")
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # of Rust, which is no Exception
                raise
            return self._failed("it cannot be told (the library gave up)")
        return held if isinstance(held, bool) else self._failed(str(held))

    def _evaluate(self, group: Group, item: Any) -> bool | str:
        """Whether it holds, or why that cannot be told. Raises whatever the library does."""
        readers = self._readers.get((group.encoding, group.signal))
        if readers is None:
            readers = self._readers[group.encoding, group.signal] = self._made(group)
        expression = self.expression
        values = {name: read(group, item) for name, read in readers}
        if expression.is_looping and expression.is_too_much(*_weigh(values)):
            return "its loop would take too long on an item of this size"
        values.update(expression.functions)
        held = expression.program.execute(values)
        if isinstance(held, bool):
            return held
        return f"its result is neither true nor false but of type {type(held).__name__}"

    def _made(self, group: Group) -> list[tuple[str, Read]]:
        keys = self.expression.keys
        return [
            (name, reader_of(name, group.encoding, group.signal, keys.get(name)))
            for name in self.expression.variables
        ]

    def _failed(self, why: str) -> bool:
        self.failures += 1
        self.failure = self.failure or why
        return False


def _weigh(values: dict[str, Any]) -> tuple[int, int, int]:
    """How many elements there are in all, how long the longest text is, and bytes in all."""
    elements = longest = size = 0
    pending = list(values.values())
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            elements += len(value)
            pending += value.keys()
            pending += value.values()
        elif isinstance(value, list):
            elements += len(value)
            pending += value
        else:
            length = len(value) if isinstance(value, str | bytes) else 8
            longest, size = max(longest, length), size + length
    return elements, longest, size
