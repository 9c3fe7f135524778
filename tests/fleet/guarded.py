"""A broker that asks who comes: listeners with TLS, client certificates and accounts, and rights.

Who comes to its listener PLAIN may do everything: tests use that to set the rest.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from relay.buffer.kafka.client import import_client
from tests.support.certificates import DAY, NOW, Authority, make_authority
from tests.support.kafka import Brokers

KAFKA = import_client().admin
PASSWORD = "what brokers know"
LISTENERS = {
    "TLS": "SSL",
    "EXPIRED": "SSL",
    "OTHERNAME": "SSL",
    "MUTUAL": "SSL",
    "SASL": "SASL_PLAINTEXT",
    "BOTH": "SASL_SSL",
}
MECHANISMS = {"SASL": ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"), "BOTH": ("SCRAM-SHA-512",)}
_MODULES = "org.apache.kafka.common.security"
_ANY = "*"


def _store(pair: tuple[str, str]) -> Path:
    """One file of a certificate and its key, as brokers read it."""
    certificate, key = map(Path, pair)
    store = certificate.with_suffix(".store")
    store.write_text(key.read_text() + certificate.read_text())
    return store


def _accounts() -> dict[str, str]:
    """Settings of the listeners that ask for an account."""
    made = {}
    for listener, mechanisms in MECHANISMS.items():
        own = f"listener.name.{listener.lower()}"
        made[f"{own}.sasl.enabled.mechanisms"] = ",".join(mechanisms)
        for each in mechanisms:
            module = f"{_MODULES}.scram.ScramLoginModule required;"
            if each == "PLAIN":
                module = f'{_MODULES}.plain.PlainLoginModule required user_relay="{PASSWORD}";'
            made[f"{own}.{each.lower()}.sasl.jaas.config"] = module
    return made


@dataclass
class Guarded:
    """The broker, the authority that signed its certificates, and one that signed none of them."""

    brokers: Brokers
    ca: Authority
    stranger: Authority

    @cached_property
    def admin(self) -> Any:
        """A client that may do everything."""
        return KAFKA.AdminClient({"bootstrap.servers": ",".join(self.brokers.bootstrap)})

    def set_password(self, password: str) -> None:
        """Of the account `relay`, for both mechanisms of SCRAM."""
        for mechanism in (KAFKA.ScramMechanism.SCRAM_SHA_256, KAFKA.ScramMechanism.SCRAM_SHA_512):
            info = KAFKA.ScramCredentialInfo(mechanism, 4096)
            wanted = KAFKA.UserScramCredentialUpsertion("relay", info, password.encode())
            for answer in self.admin.alter_user_scram_credentials([wanted]).values():
                answer.result(60)

    def show(self, listener: str, pair: tuple[str, str]) -> None:
        """Have a listener show another certificate from now on."""
        key = f"listener.name.{listener.lower()}.ssl.keystore.location"
        how = KAFKA.AlterConfigOpType.SET
        entry = KAFKA.ConfigEntry(key, str(_store(pair)), incremental_operation=how)
        kind = KAFKA.ConfigResource.Type.BROKER
        resource = KAFKA.ConfigResource(kind, "1", incremental_configs=[entry])
        for answer in self.admin.incremental_alter_configs([resource]).values():
            answer.result(60)

    def grant(self, *commands: str) -> None:
        """Do what these lines of kafka-acls would."""
        bindings = [each for command in commands for each in bindings_of(command)]
        for answer in self.admin.create_acls(bindings).values():
            answer.result(60)

    def take(self, operation: str, kind: str) -> None:
        """Take one right away, for all resources of that kind."""
        self._delete(KAFKA.ResourceType[kind.upper()], KAFKA.AclOperation[_enum(operation)])

    def take_all(self) -> None:
        """Take every right away."""
        self._delete(KAFKA.ResourceType.ANY, KAFKA.AclOperation.ANY)

    def _delete(self, kind: Any, operation: Any) -> None:
        pattern, permission = KAFKA.ResourcePatternType.ANY, KAFKA.AclPermissionType.ANY
        meant = KAFKA.AclBindingFilter(kind, None, pattern, None, None, operation, permission)
        for answer in self.admin.delete_acls([meant]).values():
            answer.result(60)


def _enum(operation: str) -> str:
    """`DescribeConfigs` → `DESCRIBE_CONFIGS`."""
    return "".join(f"_{each}" if each.isupper() else each for each in operation).strip("_").upper()


def bindings_of(command: str) -> Iterator[Any]:
    """What a line of kafka-acls asks for, read as that reads it."""
    words = shlex.split(command.replace("\\\n", " "))
    assert words[0] == "kafka-acls.sh"
    assert "--add" in words
    flags: dict[str, list[str]] = {}
    at = 1
    while at < len(words):
        if words[at] == "--add":
            at += 1
            continue
        flags.setdefault(words[at], []).append(words[at + 1])
        at += 2
    (principal,) = flags.pop("--allow-principal")
    flags.pop("--bootstrap-server")
    (pattern,) = flags.pop("--resource-pattern-type", ["literal"])
    operations = flags.pop("--operation")
    kinds = {"--topic": KAFKA.ResourceType.TOPIC, "--group": KAFKA.ResourceType.GROUP}
    assert flags.keys() <= kinds.keys(), flags
    for flag, names in flags.items():
        for name in names:
            for each in operations:
                yield KAFKA.AclBinding(
                    kinds[flag],
                    name,
                    KAFKA.ResourcePatternType[pattern.upper()],
                    principal,
                    _ANY,
                    KAFKA.AclOperation[_enum(each)],
                    KAFKA.AclPermissionType.ALLOW,
                )


@contextmanager
def guarded_broker(folder: Path, **settings: Any) -> Iterator[Guarded]:
    """One broker with all that; the account `relay` has every right to topics and groups."""
    (folder / "ca").mkdir()
    (folder / "stranger").mkdir()
    ca, stranger = make_authority(folder / "ca"), make_authority(folder / "stranger")
    expired = ca.issue("expired", begins=NOW - 2 * DAY, ends=NOW - DAY)
    stores = {
        "ssl.keystore.location": ca.issue("broker"),
        "listener.name.expired.ssl.keystore.location": expired,
        "listener.name.othername.ssl.keystore.location": ca.issue("other", host="10.1.2.3"),
    }
    guarding = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "ssl.keystore.type": "PEM",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": ca.file,
        "listener.name.mutual.ssl.client.auth": "required",
        **{key: str(_store(pair)) for key, pair in stores.items()},
        **_accounts(),
    }
    with Brokers(folder, 1, listeners=LISTENERS, **guarding, **settings) as brokers:
        guarded = Guarded(brokers, ca, stranger)
        guarded.set_password(PASSWORD)
        yield guarded


def grant_everything(guarded: Guarded, principals: Iterable[str]) -> None:
    """Every right to topics and groups, for tests that are not about rights."""
    for each in principals:
        guarded.grant(
            f"kafka-acls.sh --bootstrap-server x:1 --add --allow-principal '{each}' "
            "--operation All --topic '*' --group '*'"
        )


def files_of(pair: tuple[str, str]) -> Mapping[str, str]:
    """A client certificate, as keys of `[fleet]`."""
    return {"client_cert": pair[0], "client_key": pair[1]}
