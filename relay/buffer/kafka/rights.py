"""Which rights this relay's account lacks on the brokers, and the command that grants them.

Brokers tell what an account may do with a topic or a group beside what they tell of it. What cannot
be asked now, such as of a topic that is not there, is not taken for lacking.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from relay.buffer.kafka.coordinator import committed_of, describe_groups
from relay.buffer.kafka.own_certificate import look_at_own
from relay.buffer.kafka.settings import KafkaSettings
from relay.model.errors import BufferUnavailable

Kind = Literal["topic", "group"]

# In the words of kafka-acls. READ and WRITE bring DESCRIBE with them.
TOPIC_RIGHTS: Final = ("Read", "Write", "Describe", "DescribeConfigs")
OWN_TOPIC_RIGHTS: Final = ("Create", "AlterConfigs")  # with own_topics, when there is need
GROUP_RIGHTS: Final = ("Read", "Describe", "Delete")
REFUSED: Final = {"TOPIC_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED"}
ASK_SECONDS: Final = 5.0


class Lacking(NamedTuple):
    """Operations that an account may not do with some topics or groups."""

    kind: Kind
    operations: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def level(self) -> Literal["broken", "weak", "note"]:
        """What it means to be without, as of `topics.Remark`."""
        if all(each.endswith("<any>") for each in self.names):
            return "note"
        if {"DescribeConfigs", "Delete"}.issuperset(self.operations):
            return "weak" if "DescribeConfigs" in self.operations else "note"
        return "broken"

    @property
    def brief(self) -> str:
        """In few words, without the command."""
        more = f" and {len(self.names) - 1} more" if len(self.names) > 1 else ""
        return f"may not {', '.join(self.operations)} {self.kind} {self.names[0]}{more}"

    def words(self, settings: KafkaSettings) -> str:
        """For people, with the command."""
        what = self.kind + ("s" if len(self.names) > 1 else "")
        return (
            f"the account of this relay may not {', '.join(self.operations)} "
            f"{what} {', '.join(self.names)}: {grant(settings, self)}"
        )


def grant(settings: KafkaSettings, lacking: Lacking) -> str:
    """The command that grants it. Groups are granted by what the names of a fleet's begin with."""
    kind, operations, names = lacking
    if kind == "group" and all(each.startswith(settings.group_prefix) for each in names):
        named = [f"--group {settings.group_prefix} --resource-pattern-type prefixed"]
    else:
        named = [f"--{kind} {each}" for each in names]
    allowed = (f"--operation {each}" for each in operations)
    return " ".join(
        (
            f"kafka-acls.sh --bootstrap-server {settings.fleet.brokers[0]} --add",
            f"--allow-principal '{principal(settings)}'",
            *allowed,
            *named,
        )
    )


def principal(settings: KafkaSettings) -> str:
    """Whom the brokers take this relay for, unless they are set to name accounts otherwise."""
    if settings.fleet.sasl is not None:
        return f"User:{settings.fleet.sasl.username}"
    return f"User:{look_at_own(settings.fleet).subject or 'ANONYMOUS'}"


Wanted = Mapping[str, tuple[str, ...]]


def wanted_rights(settings: KafkaSettings, topics: Iterable[str]) -> Wanted:
    """Which of them a relay needs for each topic."""
    trims = settings.fleet.keep_delivered_seconds is not None
    rows = settings.rows_topics
    return {
        each: (*TOPIC_RIGHTS, "Delete") if trims and each in rows else TOPIC_RIGHTS
        for each in topics
    }


def lacking_rights(
    client: Any, admin: Any, settings: KafkaSettings, topics: Wanted, groups: Collection[str]
) -> list[Lacking]:
    """What the account of `admin` lacks of what a relay needs; `client` is the library.

    Waits for the brokers: some seconds at most for each kind.
    """
    return [
        *_gather("topic", _of_topics(client, admin, topics)),
        *_gather("group", _of_groups(settings, groups)),
    ]


def hidden_groups(client: Any, settings: KafkaSettings) -> Lacking | None:
    """What is lacking where groups of the fleet may be hidden from this account.

    Brokers leave out of their lists what an account may not see: whoever goes by what all groups
    have had must be allowed to see any. Raises KafkaException.
    """
    topic = next(iter(settings.rows_topics))
    try:
        committed_of(settings, settings.any_group, [(topic, 0)])
    except client.module.KafkaException as error:
        if error.args[0].name() != "GROUP_AUTHORIZATION_FAILED":
            raise
        return Lacking("group", ("Describe",), (settings.any_group,))
    return None


_Lacks = Iterator[tuple[str, tuple[str, ...]]]


def _of_topics(client: Any, admin: Any, topics: Wanted) -> _Lacks:
    asked = client.module.TopicCollection(list(topics))
    answers = admin.describe_topics(
        asked, include_authorized_operations=True, request_timeout=ASK_SECONDS
    )
    for name, answer in answers.items():
        try:
            told = answer.result(2 * ASK_SECONDS).authorized_operations or ()
        except TimeoutError:
            continue
        except client.module.KafkaException as error:
            if error.args[0].name() in REFUSED:
                yield name, topics[name]
            continue
        yield from _lacks(name, topics[name], [each.name for each in told])


def _of_groups(settings: KafkaSettings, groups: Collection[str]) -> _Lacks:
    try:
        described = describe_groups(settings, groups)
    except BufferUnavailable:
        return
    for name, group in described.items():
        if group.error in REFUSED:
            yield name, GROUP_RIGHTS
        elif not group.error:
            yield from _lacks(name, GROUP_RIGHTS, group.operations)


def _lacks(name: str, wanted: tuple[str, ...], told: Collection[str]) -> _Lacks:
    granted = {each.replace("_", "") for each in told}
    lacking = tuple(each for each in wanted if each.upper() not in granted)
    if granted and lacking:  # brokers that tell none do not ask who comes
        yield name, lacking


def _gather(kind: Kind, found: Iterable[tuple[str, tuple[str, ...]]]) -> Iterator[Lacking]:
    """Those that lack the same, together."""
    names: dict[tuple[str, ...], list[str]] = {}
    for name, operations in found:
        names.setdefault(operations, []).append(name)
    for operations, own in names.items():
        yield Lacking(kind, operations, tuple(sorted(own)))
