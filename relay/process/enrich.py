"""Resource attributes that say where spans come from, added where the sender has none.

The sender always wins: a key that it sent, even with an empty value, is never touched, nor are
entityRefs and schemaUrl (the resource merge of the OpenTelemetry SDK specification, with the
sender as the updating resource). Of what is added, static configuration beats
OTEL_RESOURCE_ATTRIBUTES (where that is to be looked at), which beats detection. What is detected
describes this host, so only senders on this host get it. Process, SDK and instance attributes are
never added: they are the producer's, and a relay cannot know them.
"""

import platform
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from relay.model.errors import ConfigError
from relay.model.records import Encoding
from relay.otlp import messages
from relay.otlp.resources import KnownResource

Attributes = dict[str, str]

# Of a metric every resource attribute is part of the identity of its series: one that changes with
# an update of the host would begin all of them anew.
STABLE = frozenset({"host.name", "host.id", "os.type"})

# A sender that has only the former name of an attribute must not get both.
FORMER_NAMES = {"deployment.environment.name": "deployment.environment"}
# In OTEL_RESOURCE_ATTRIBUTES these describe the process that has the variable: the relay itself.
OF_THE_PRODUCER = ("service.", "process.", "telemetry.")

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm32", "i686": "x86"}


class Enrich:
    """Adds attributes; the result is remembered with what is known of each distinct resource."""

    def __init__(self, *, detected: Mapping[str, str], configured: Mapping[str, str]) -> None:
        """`detected` is for senders on this host, `configured` for all."""
        local = {**detected, **configured}
        self._additions = {
            encoding: (Addition(configured, encoding), Addition(local, encoding))
            for encoding in Encoding
        }

    def additions(self, encoding: Encoding, *, is_local: bool) -> list[tuple[bytes, bytes, bytes]]:
        """What is added: key, its former name, and the attribute as it is put into a resource."""
        return self._additions[encoding][is_local].encoded()

    def __call__(self, known: KnownResource, encoding: Encoding, *, is_local: bool) -> bytes:
        """The enriched form of a resource for a sender on this host (`is_local`) or elsewhere."""
        enriched = known.enriched[is_local] = self._additions[encoding][is_local].to(known)
        return enriched


class Addition:
    """Attributes in one encoding, encoded once, ready to be put into resources."""

    def __init__(self, attributes: Mapping[str, str], encoding: Encoding) -> None:
        encode = _as_json if encoding is Encoding.JSON else _as_protobuf
        self._insert = _into_json if encoding is Encoding.JSON else _into_protobuf
        self._encoded = {key: encode(key, value) for key, value in attributes.items()}

    def encoded(self) -> list[tuple[bytes, bytes, bytes]]:
        """Each attribute encoded, behind its key and that key's former name."""
        return [
            (key.encode(), FORMER_NAMES.get(key, "").encode(), encoded)
            for key, encoded in self._encoded.items()
        ]

    def to(self, known: KnownResource) -> bytes:
        """The resource with those attributes that it lacks."""
        missing = [
            encoded
            for key, encoded in self._encoded.items()
            if key not in known.keys and FORMER_NAMES.get(key) not in known.keys
        ]
        return self._insert(known.normal, missing) if missing else known.normal


def _as_json(key: str, value: str) -> bytes:
    return messages.encode(messages.KeyValue(key=key, value=messages.AnyValue(stringValue=value)))


def _as_protobuf(key: str, value: str) -> bytes:
    attribute = KeyValue(key=key, value=AnyValue(string_value=value))
    return Resource(attributes=[attribute]).SerializeToString()


def _into_json(normal: bytes, missing: list[bytes]) -> bytes:
    """At the head of the attributes, which in normal form stand first and are left out if empty."""
    head = b'{"attributes":['
    added = b",".join(missing)
    if normal.startswith(head):
        return head + added + b"," + normal[len(head) :]
    return head + added + (b"]}" if normal == b"{}" else b"]," + normal[1:])


def _into_protobuf(normal: bytes, missing: list[bytes]) -> bytes:
    """Behind what is there: concatenated messages merge, and unknown fields stay as they were."""
    return normal + b"".join(missing)


def stable(detected: Mapping[str, str]) -> Attributes:
    """Of what was detected, what may be added to metrics."""
    return {key: value for key, value in detected.items() if key in STABLE}


def attributes_from_environment(text: str) -> Attributes:
    """OTEL_RESOURCE_ATTRIBUTES: `key=value,key=value`, both percent-decoded.

    What names a producer (service, process, SDK) is left out: the relay is not a sender's.
    Raises ConfigError when any item is wrong: the resource specification wants the whole value
    discarded and reported then.
    """
    found: Attributes = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        key, separator, value = item.partition("=")
        key = unquote(key.strip())
        if not separator or not key or "=" in value:
            raise ConfigError(
                f"item {item!r} is not key=value",
                key="OTEL_RESOURCE_ATTRIBUTES",
                source="environment",
                hint="percent-encode ',' as %2C and '=' as %3D inside keys and values",
            )
        found[key] = unquote(value.strip())
    return {key: value for key, value in found.items() if not key.startswith(OF_THE_PRODUCER)}


def detect(groups: Iterable[str], *, root: Path = Path("/")) -> Attributes:
    """What can be told of this host, by group: `host` and `os` (semantic conventions 1.44)."""
    found: Attributes = {}
    if "host" in groups:
        found["host.name"] = socket.gethostname()
        machine = platform.machine()
        found["host.arch"] = ARCHITECTURES.get(machine, machine)
        host_id = _first_line(root / "etc/machine-id", root / "var/lib/dbus/machine-id")
        if host_id:
            found["host.id"] = host_id
    if "os" in groups:
        found["os.type"] = platform.system().lower()
        release = _os_release(root)
        for key, name in (
            ("NAME", "os.name"),
            ("VERSION_ID", "os.version"),
            ("PRETTY_NAME", "os.description"),
            ("BUILD_ID", "os.build_id"),
        ):
            if release.get(key):
                found[name] = release[key]
    return {key: value for key, value in found.items() if value}


def _first_line(*paths: Path) -> str:
    for path in paths:
        try:
            lines = path.read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        if lines and lines[0].strip():
            return lines[0].strip()
    return ""


def _os_release(root: Path) -> dict[str, str]:
    try:
        return platform.freedesktop_os_release() if root == Path("/") else _parse(root)
    except OSError:
        return {}


def _parse(root: Path) -> dict[str, str]:
    pairs = (
        line.partition("=")
        for line in (root / "etc/os-release").read_text().splitlines()
        if "=" in line and not line.startswith("#")
    )
    return {key: value.strip().strip("\"'") for key, _, value in pairs}
