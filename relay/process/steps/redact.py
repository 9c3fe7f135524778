"""Redacts items and what is around them: keys by globs, everything that is text by patterns.

Texts are names, messages of statuses, trace states, URLs of schemas, bodies of log records, values
of attributes at any depth and their keys, and bytes, whatever they are. Numbers and ids are none.
In protobuf fields that the schema does not know are given up: nobody can say what they hold.

An item is looked through in one go, its texts joined, and only one in which something is found is
looked into text by text.
"""

from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, MutableSequence
from typing import Any, Final

import msgspec
from msgspec import UNSET

from relay.config.steps import RedactConfig
from relay.model.records import Encoding
from relay.otlp import messages
from relay.otlp.opened import Group
from relay.process.steps.hash_key import hash_key
from relay.process.steps.plans import ITEMS, METRIC, RESOURCE, SCOPE, Plan, plan_of
from relay.process.steps.redactor import Redactor
from relay.process.steps.view import json_value, protobuf_value

_SCHEMA_URLS: Final = {
    Encoding.JSON: Plan(texts=("schemaUrl",)),
    Encoding.PROTOBUF: Plan(texts=("schema_url",)),
}


class Redact:
    """The edit that redacts. Raises ConfigError where its key cannot be read or made."""

    name = "redact"
    gives_up_unknown = True

    def __init__(self, config: RedactConfig) -> None:
        key = hash_key(config.key_file) if config.replace_with == "hash" else b""
        self.redactor = Redactor(config.keys, config.patterns, config.replace_with, key)

    def resource(self, group: Group) -> bool:
        """Redact the resource, and the URL of its schema."""
        urls = _SCHEMA_URLS[group.encoding]
        is_changed = self._redact(group.entry, urls, group.encoding)
        plan = plan_of(RESOURCE, group.encoding)
        return self._redact(group.resource, plan, group.encoding) or is_changed

    def scope(self, group: Group) -> bool:
        """Redact the scope, and the URL of its schema."""
        urls = _SCHEMA_URLS[group.encoding]
        is_changed = self._redact(group.holder, urls, group.encoding)
        if group.scope is None:
            return is_changed
        plan = plan_of(SCOPE, group.encoding)
        return self._redact(group.scope, plan, group.encoding) or is_changed

    def metric(self, group: Group) -> bool:
        """Redact the metric, but for the points."""
        return self._redact(group.metric, plan_of(METRIC, group.encoding), group.encoding)

    def item(self, group: Group, item: Any) -> bool:
        """Redact one item."""
        plan = plan_of(ITEMS[type(item).__name__], group.encoding)
        return self._redact(item, plan, group.encoding)

    def deep(self, value: messages.AnyValue) -> bool:
        """Redact a value of JSON that lies deep in some item."""
        return _Json(self.redactor).value(value)

    def _redact(self, message: Any, plan: Plan, encoding: Encoding) -> bool:
        look = _Look(self.redactor, is_json=encoding is Encoding.JSON)
        look.message(message, plan)
        if not look.finds():
            return False
        rewrite = _Json(self.redactor) if encoding is Encoding.JSON else _Protobuf(self.redactor)
        return rewrite.message(message, plan)


class _Look:
    """Gathers the texts of a message, and whether one of its keys is named."""

    def __init__(self, redactor: Redactor, *, is_json: bool) -> None:
        self._redactor = redactor
        self._value = self._json_value if is_json else self._protobuf_value
        self._is_json = is_json
        self._texts: list[str] = []
        self._raw: list[bytes] = []
        self._is_key = False

    def finds(self) -> bool:
        """Whether there may be anything to redact."""
        redactor = self._redactor
        if self._is_key:
            return True
        if not redactor.has_patterns:
            return False
        if redactor.may_join:
            joined = "\0".join(self._texts).encode()
            return redactor.is_in(joined) or any(map(redactor.is_in, self._raw))
        return any(redactor.is_in(text.encode()) for text in self._texts) or any(
            map(redactor.is_in, self._raw)
        )

    def message(self, message: Any, plan: Plan) -> None:
        """Look at a message."""
        for name in plan.texts:
            text = getattr(message, name)
            if text:
                self._texts.append(text)
        for name in plan.lists_of_texts:
            self._texts += getattr(message, name)
        for name in plan.attributes:
            self._attributes(getattr(message, name))
        for name in plan.values:
            self._value(getattr(message, name))
        for name, inner in plan.singles:
            single = getattr(message, name)
            if single is not UNSET:
                self.message(single, inner)
        for name, inner in plan.lists:
            for each in getattr(message, name):
                self.message(each, inner)

    def _attributes(self, attributes: Any) -> None:
        key_of = self._redactor.key
        for each in attributes:
            key = each.key
            is_named, shown = key_of(key)
            if is_named or shown is not key:
                self._is_key = True
                return  # whatever else there is: it is looked into
            self._value(each.value)

    def _json_value(self, value: Any) -> None:
        if value is UNSET:
            return
        text = value.stringValue
        if text is not UNSET:
            self._texts.append(text)
        elif value.arrayValue is not UNSET:
            for each in value.arrayValue.values:
                self._json_value(each)
        elif value.kvlistValue is not UNSET:
            self._attributes(value.kvlistValue.values)
        elif value.bytesValue is not UNSET:
            self._raw.append(a2b_base64(value.bytesValue))

    def _protobuf_value(self, value: Any) -> None:
        text = value.string_value
        if text:
            self._texts.append(text)
            return
        member = value.WhichOneof("value")
        if member == "array_value":
            for each in value.array_value.values:
                self._protobuf_value(each)
        elif member == "kvlist_value":
            self._attributes(value.kvlist_value.values)
        elif member == "bytes_value":
            self._raw.append(value.bytes_value)


class _Rewrite:
    """Rewrites a message text by text; each method tells whether it changed anything."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def message(self, message: Any, plan: Plan) -> bool:
        """Rewrite a message."""
        is_changed = self._texts(message, plan)
        for name in plan.attributes:
            is_changed |= self.attributes(getattr(message, name))
        for name in plan.values:
            if self.has(message, name):
                is_changed |= self.value(getattr(message, name))
        for name, inner in plan.singles:
            if self.has(message, name):
                is_changed |= self.message(getattr(message, name), inner)
        for name, inner in plan.lists:
            for each in getattr(message, name):
                is_changed |= self.message(each, inner)
        return is_changed

    def _texts(self, message: Any, plan: Plan) -> bool:
        is_changed = False
        for name in plan.texts:
            before = getattr(message, name)
            after = self._redactor.text(before)
            if after is not before:
                setattr(message, name, after)
                is_changed = True
        for name in plan.lists_of_texts:
            texts = getattr(message, name)
            for at, before in enumerate(texts):
                after = self._redactor.text(before)
                if after is not before:
                    texts[at] = after
                    is_changed = True
        return is_changed

    def values(self, values: Iterable[Any]) -> bool:
        """Rewrite each of these values."""
        is_changed = False
        for each in values:
            is_changed |= self.value(each)
        return is_changed

    def attributes(self, attributes: MutableSequence[Any]) -> bool:
        """Rewrite attributes, or the entries of a list of keys and values."""
        is_changed = False
        for at in reversed(range(len(attributes))):
            each = attributes[at]
            key = each.key
            is_named, shown = self._redactor.key(key)
            if is_named and self._redactor.replace_with == "drop":
                del attributes[at]
                is_changed = True
                continue
            if is_named:
                is_changed |= self.hide(each)
            elif self.has(each, "value"):
                is_changed |= self.value(each.value)
            if shown is not key:
                each.key = shown
                is_changed = True
        return is_changed

    def shown(self, value: Any) -> str:
        """What stands for a value that is a number, a list or a map, alike in both encodings."""
        plain = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        return self._redactor.replacement(plain.encode()).decode()

    def has(self, message: Any, name: str) -> bool:
        """Whether a message has that field."""
        raise NotImplementedError

    def hide(self, attribute: Any) -> bool:
        """Put something else in the place of the value of a named key."""
        raise NotImplementedError

    def value(self, value: Any) -> bool:
        """Rewrite a value."""
        raise NotImplementedError


class _Json(_Rewrite):
    def has(self, message: Any, name: str) -> bool:
        return getattr(message, name) is not UNSET

    def hide(self, attribute: Any) -> bool:
        if attribute.value is UNSET or attribute.value == messages.AnyValue():
            return False
        attribute.value = messages.AnyValue(stringValue=self.shown(json_value(attribute.value)))
        return True

    def value(self, value: Any) -> bool:
        before = value.stringValue
        if before is not UNSET:
            value.stringValue = self._redactor.text(before)
            return value.stringValue is not before
        if value.arrayValue is not UNSET:
            return self.values(value.arrayValue.values)
        if value.kvlistValue is not UNSET:
            return self.attributes(value.kvlistValue.values)
        if value.bytesValue is UNSET:
            return False
        raw = a2b_base64(value.bytesValue)
        redacted = self._redactor.raw(raw)
        if redacted is not raw:
            value.bytesValue = b2a_base64(redacted, newline=False).decode()
        return redacted is not raw


class _Protobuf(_Rewrite):
    def has(self, message: Any, name: str) -> bool:
        found: bool = message.HasField(name)
        return found

    def hide(self, attribute: Any) -> bool:
        if attribute.value.WhichOneof("value") is None:
            return False
        attribute.value.string_value = self.shown(protobuf_value(attribute.value))
        return True

    def value(self, value: Any) -> bool:
        member = value.WhichOneof("value")
        if member == "array_value":
            return self.values(value.array_value.values)
        if member == "kvlist_value":
            return self.attributes(value.kvlist_value.values)
        if member not in ("string_value", "bytes_value"):
            return False
        before = getattr(value, member)
        replace = self._redactor.text if member == "string_value" else self._redactor.raw
        after = replace(before)
        if after is not before:
            setattr(value, member, after)
        return after is not before
