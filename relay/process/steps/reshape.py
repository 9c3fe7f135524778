"""Sets, renames and deletes attributes for one destination.

Deleting and renaming is for the attributes of items, of their events and links, of scopes and of
resources, not for what lies inside values. What is set is set at the resource, in the place of what
the sender has there.
"""

from collections.abc import MutableSequence
from typing import Any

from relay.config.steps import AttributesConfig, Scalar
from relay.model.records import Encoding
from relay.otlp import messages
from relay.otlp.opened import Group
from relay.process.steps.globs import compile_globs


class Reshape:
    """The edit `attributes`: delete, then rename, then set."""

    name = "attributes"
    gives_up_unknown = False

    def __init__(self, config: AttributesConfig) -> None:
        self._config = config
        self._is_deleted = compile_globs(config.delete)

    def resource(self, group: Group) -> bool:
        """Reshape the resource, and set there what is to be set."""
        attributes = group.resource.attributes
        is_changed = self._reshape(attributes)
        for key, value in self._config.set.items():
            is_changed |= _set(attributes, key, value, group.encoding)
        return is_changed

    def scope(self, group: Group) -> bool:
        """Reshape the scope."""
        return group.scope is not None and self._reshape(group.scope.attributes)

    def metric(self, group: Group) -> bool:
        """Nothing: what a metric has beside its points are no attributes of theirs."""
        return False

    def item(self, group: Group, item: Any) -> bool:
        """Reshape an item, and the events and links of a span."""
        is_changed = self._reshape(item.attributes)
        for name in ("events", "links"):
            for each in getattr(item, name, ()):
                is_changed |= self._reshape(each.attributes)
        return is_changed

    def deep(self, value: Any) -> bool:
        """Nothing: only whole attributes are reshaped."""
        return False

    def _reshape(self, attributes: MutableSequence[Any]) -> bool:
        """Delete and rename. What would get a name that is there already keeps its own."""
        is_changed = False
        for at in reversed(range(len(attributes))):
            if self._is_deleted(attributes[at].key):
                del attributes[at]
                is_changed = True
        names = self._config.rename
        for each in attributes if names else ():
            new = names.get(each.key)
            if new is not None and not any(other.key == new for other in attributes):
                each.key = new
                is_changed = True
        return is_changed


def _value(value: Scalar) -> messages.AnyValue:
    made = messages.AnyValue()
    setattr(made, _KINDS[type(value)], str(value) if type(value) is int else value)
    return made


def _set(attributes: Any, key: str, value: Scalar, encoding: Encoding) -> bool:
    """Set one attribute."""
    kind = _KINDS[type(value)]
    found = next((each for each in attributes if each.key == key), None)
    if encoding is Encoding.JSON:
        made = _value(value)
        if found is None:
            attributes.append(messages.KeyValue(key, made))
        elif found.value == made:
            return False
        else:
            found.value = made
        return True
    name = _IN_PROTOBUF[kind]
    if found is None:
        found = attributes.add(key=key)
    elif found.value.WhichOneof("value") == name and getattr(found.value, name) == value:
        return False
    setattr(found.value, name, value)
    return True


_KINDS = {str: "stringValue", bool: "boolValue", int: "intValue", float: "doubleValue"}
_IN_PROTOBUF = {
    "stringValue": "string_value",
    "boolValue": "bool_value",
    "intValue": "int_value",
    "doubleValue": "double_value",
}
