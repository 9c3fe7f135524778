"""What a group's coordinator is asked, in ways that cannot end the relay.

The client library may end the whole process it runs in when an admin client asks a coordinator
(read in librdkafka 2.15, seen with 2.16). There are two faults:

- A coordinator that is found, and is not what it was when the question goes out: the broken-off
  question is freed and used once more, `Assertion eonce->refcnt > 0` (librdkafka #5397, open). So
  it may be with describe_consumer_groups, delete_consumer_groups, list_consumer_group_offsets,
  alter_consumer_group_offsets and delete_consumer_group_offsets.
- A broker that answers list_consumer_group_offsets as the coordinator no more: a group is looked
  for that an admin client does not have (librdkafka #5040, open).

Not among them is what goes to every broker (list_consumer_groups), to leaders (list_offsets,
delete_records) or to the controller (topics, settings), nor what a consumer asks of its own group
(`committed`, `commit`). So offsets are asked for by a consumer. For the rest there is no other way:
it is asked by a process of its own, which may die of it and then is started again.
"""

import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from relay.buffer.kafka.client import import_client
from relay.buffer.kafka.fetch import make_consumer
from relay.buffer.kafka.settings import ClientSettings, KafkaSettings
from relay.model.errors import BufferUnavailable

ASK_SECONDS: Final = 10.0
EMPTY_SECONDS: Final = 20.0  # a static member counts until its session is over
_LOAD_SECONDS: Final = 10.0  # of a busy host; some 0.2 s otherwise
_ATTEMPTS: Final = 3
_AGAIN_SECONDS: Final = 0.5
_TIMED_OUT: Final = "_TIMED_OUT"
NOT_THERE: Final = "GROUP_ID_NOT_FOUND"
NOT_EMPTY: Final = "NON_EMPTY_GROUP"

Partition = tuple[str, int]
Committed = dict[Partition, tuple[int, str]]


class Seen(msgspec.Struct, frozen=True):
    """A member of a group: a relay by its id, where it comes from, and what is its to deliver."""

    relay: str
    host: str
    partitions: tuple[Partition, ...]


class Group(msgspec.Struct, frozen=True):
    """What a coordinator says of a group. `error` is its code, else empty.

    `operations` are those that the account may do, none where brokers do not ask who comes.
    """

    state: str = ""
    members: tuple[Seen, ...] = ()
    operations: tuple[str, ...] = ()
    error: str = ""
    words: str = ""  # of the error


class _Question(msgspec.Struct, frozen=True):
    client: ClientSettings
    groups: tuple[str, ...]
    deletes: bool


def committed_of(settings: KafkaSettings, group: str, partitions: Iterable[Partition]) -> Committed:
    """Offset and metadata of those of `partitions` that a group has committed for.

    By a consumer that joins nothing. Raises KafkaException.
    """
    module = import_client().module
    told = {**settings.client(), "group.id": group, "enable.auto.commit": False}
    consumer = make_consumer(told)
    try:
        asked = [module.TopicPartition(*each) for each in partitions]
        found = consumer.committed(asked, ASK_SECONDS) if asked else []
    except module.KafkaException:
        said = consumer.poll(0)  # of a group that is forbidden it says no more than "timed out"
        if said is not None and said.error() is not None:
            raise module.KafkaException(said.error()) from None
        raise
    finally:
        consumer.close()
    for each in found:
        if each.error is not None:
            raise module.KafkaException(each.error)
    return {
        (each.topic, each.partition): (each.offset, each.metadata or "")
        for each in found
        if each.offset >= 0
    }


def describe_groups(settings: KafkaSettings, groups: Collection[str]) -> dict[str, Group]:
    """What each of `groups` is now; blocks for some seconds at most. Raises BufferUnavailable."""
    return _ask_apart(settings, groups, deletes=False)


def delete_groups(settings: KafkaSettings, groups: Collection[str]) -> dict[str, Group]:
    """Delete those: the ones that could not be, each with the `error`, also that it is `NOT_THERE`.

    Blocks while a member's session goes on. Raises BufferUnavailable.
    """
    return _ask_apart(settings, groups, deletes=True)


def _ask_apart(
    settings: KafkaSettings, groups: Collection[str], *, deletes: bool
) -> dict[str, Group]:
    if not groups:
        return {}
    question = msgspec.json.encode(_Question(settings.client(), tuple(sorted(groups)), deletes))
    modules = os.pathsep.join(str(Path(each).absolute()) for each in sys.path)
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_AGAIN_SECONDS)
        with contextlib.suppress(subprocess.TimeoutExpired, msgspec.DecodeError):
            done = subprocess.run(
                [sys.executable, "-P", "-m", "relay.buffer.kafka.coordinator"],
                input=question,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # the last words of the library
                env={**os.environ, "PYTHONPATH": modules},
                start_new_session=True,  # Ctrl-C is for who asks
                timeout=_LOAD_SECONDS + (EMPTY_SECONDS if deletes else 0) + ASK_SECONDS,
                check=False,
            )
            if not done.returncode:
                return msgspec.json.decode(done.stdout, type=dict[str, Group])
    raise BufferUnavailable(
        "the broker that keeps the fleet's groups went away while it was asked",
        hint="try again once the brokers are all there",
    )


# -- in the process of its own --------------------------------------------------------------------


def _describe(client: Any, admin: Any, groups: Collection[str]) -> dict[str, Group]:
    answers = admin.describe_consumer_groups(
        list(groups), include_authorized_operations=True, request_timeout=ASK_SECONDS
    )
    found = {}
    for group, answer in answers.items():
        told, failed = _told(client, answer)
        found[group] = failed or Group(
            told.state.name.lower(),
            tuple(map(_seen, told.members)),
            tuple(each.name for each in told.authorized_operations or ()),
        )
    return found


def _seen(member: Any) -> Seen:
    assigned = member.assignment.topic_partitions if member.assignment else ()
    return Seen(
        str(member.group_instance_id or member.client_id),
        member.host.removeprefix("/"),
        tuple((each.topic, each.partition) for each in assigned),
    )


def _delete(client: Any, admin: Any, groups: Collection[str]) -> dict[str, Group]:
    until, left = time.monotonic() + EMPTY_SECONDS, set(groups)
    failed: dict[str, Group] = {}
    while True:
        answers = admin.delete_consumer_groups(sorted(left), request_timeout=ASK_SECONDS)
        for group, answer in answers.items():
            _none, problem = _told(client, answer)
            failed.pop(group, None)
            if problem is not None:
                failed[group] = problem
        left = {group for group, each in failed.items() if each.error == NOT_EMPTY}
        if not left or time.monotonic() > until:
            return failed
        time.sleep(_AGAIN_SECONDS)


def _told(client: Any, answer: Any) -> tuple[Any, Group | None]:
    """What a coordinator said, or why it said nothing."""
    try:
        return answer.result(ASK_SECONDS), None
    except TimeoutError:
        return None, Group(error=_TIMED_OUT, words="no answer in time")
    except client.module.KafkaException as error:
        return None, Group(error=error.args[0].name(), words=error.args[0].str())


def main() -> int:
    """A question in, by standard input, what was answered out."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # of an end that is expected nobody wants one
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=_Question)
    client = import_client()
    admin = client.make(client.admin.AdminClient, question.client)
    answers: Mapping[str, Group] = (_delete if question.deletes else _describe)(
        client, admin, question.groups
    )
    sys.stdout.buffer.write(msgspec.json.encode(answers))
    return 0


if __name__ == "__main__":
    sys.exit(main())
