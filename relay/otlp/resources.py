"""What is known of a resource, remembered by its text as sent, within bounds.

A sender's resource is the same in every request: it is decoded, checked and enriched once. One
that is new each time (OpenRouter's) only passes through.
"""

from typing import Final

from opentelemetry.proto.resource.v1 import resource_pb2

from relay.model.records import BodyFlag
from relay.otlp import json_exact, messages
from relay.otlp.json_values import Findings, Unusual, has_second_member, normalise_attributes

SERVICE_NAME: Final = "service.name"
_MOST_ENTRIES: Final = 1024
_MOST_BYTES: Final = 4 * 1024 * 1024
_MOST_TEXT_BYTES: Final = 64 * 1024


class KnownResource:
    """What is known of one distinct resource.

    `normal` is JSON text in normal form, or an encoded protobuf Resource. `keys` are its
    attributes' keys, those with an empty value included. `service` is its service.name, empty if
    it has none. `warnings` are times by code; their `places` begin with `resource`. `enriched` is
    filled at first use by who enriches: first for senders elsewhere, then for those on this host.
    """

    __slots__ = ("enriched", "flags", "keys", "normal", "places", "service", "warnings")

    def __init__(self, normal: bytes, attributes: dict[str, str], findings: Findings) -> None:
        self.normal = normal
        self.keys = frozenset(attributes)
        self.service = attributes.get(SERVICE_NAME, "")
        self.flags: BodyFlag = findings.flags
        self.warnings = dict(findings.warnings)
        self.places = findings.places
        self.enriched: list[bytes | None] = [None, None]


class ResourceCache:
    """Known resources by their text as sent. Bounded; the oldest goes first.

    An entry counts as four times its normal form (that, two enriched ones, the keys) and its text.
    """

    def __init__(
        self,
        *,
        max_entries: int = _MOST_ENTRIES,
        max_bytes: int = _MOST_BYTES,
    ) -> None:
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.size_bytes = 0
        self._known: dict[bytes, KnownResource] = {}
        self.get = self._known.get

    def __len__(self) -> int:
        return len(self._known)

    def put(self, text: bytes, known: KnownResource) -> KnownResource:
        """Remember `known`, which is given back; forget the oldest where a bound is passed."""
        if len(text) > _MOST_TEXT_BYTES or text in self._known:
            return known
        self._known[text] = known
        self.size_bytes += _cost(text, known)
        while len(self._known) > self.max_entries or self.size_bytes > self.max_bytes:
            oldest = next(iter(self._known))
            self.size_bytes -= _cost(oldest, self._known.pop(oldest))
        return known


def _cost(text: bytes, known: KnownResource) -> int:
    return len(text) + 4 * len(known.normal)


def know_json(text: bytes) -> KnownResource:
    """What is known of a resource in JSON; what cannot be read of it is left out and told.

    Raises Refusal when it is nested too deeply.
    """
    findings = Findings()
    try:
        resource = messages.decode_resource(text)
        normal = _normalise(resource, findings)
        if has_second_member(normal):
            raise Unusual
    except (ValueError, RecursionError, Unusual):
        findings = Findings()
        resource = json_exact.read_resource(text, findings)
        normal = _normalise(resource, findings)
    return KnownResource(normal, _texts_by_key(resource.attributes), findings)


def _normalise(resource: messages.Resource, findings: Findings) -> bytes:
    normalise_attributes([resource.attributes], findings)
    return messages.encode(resource)


def _texts_by_key(attributes: list[messages.KeyValue]) -> dict[str, str]:
    """Keys with their text, empty where the value is none. The last of duplicate keys counts."""
    texts = {}
    for attribute in attributes:
        text = attribute.value.stringValue if attribute.value else None
        texts[attribute.key] = text if isinstance(text, str) else ""
    return texts


def know_protobuf(resource: resource_pb2.Resource, encoded: bytes) -> KnownResource:
    """What is known of a resource in protobuf; `encoded` is the same, as bytes."""
    findings = Findings()
    texts = {attribute.key: attribute.value.string_value for attribute in resource.attributes}
    if len(texts) != len(resource.attributes):
        findings.warnings["attribute_key_duplicate"] += 1
    if "" in texts:
        findings.warnings["attribute_key_empty"] += 1
    return KnownResource(encoded, texts, findings)
