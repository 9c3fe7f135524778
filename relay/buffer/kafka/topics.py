"""The topics of a fleet: which there must be, made where they are ours, and what they promise.

Everything here waits for the brokers: it belongs into a thread. What a topic promises is read from
the cluster, whatever the configuration asked for.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, Literal, NamedTuple

from relay.buffer.kafka.access import Access, BrokersAway
from relay.buffer.kafka.client import Client, Renewed, import_client
from relay.buffer.kafka.rights import REFUSED, Lacking, hidden_groups, lacking_rights, wanted_rights
from relay.buffer.kafka.settings import KafkaSettings
from relay.model.units import about_duration, format_size

TOPIC_BYTES: Final = 8 * 2**20  # largest batch, compressed: a single span may be large
LETTER_BYTES: Final = 2 * 2**20
LEAST_TOPIC_BYTES: Final = 700_000  # a row that does not compress, with its headers
SEGMENT_MS: Final = 600_000  # whole segments are deleted: every ten minutes one may go
LETTERS_MS: Final = 7 * 86_400_000
HISTORY_BYTES: Final = 256 * 2**20
REQUEST_SECONDS: Final = 5.0
# Who is not let in is told sooner: the client itself tries again until the time is over.
_FIRST_SECONDS: Final = 0.5
_LEAST_SECONDS: Final = 0.1
_AWAY: Final = {"_TIMED_OUT", "_TRANSPORT", "_ALL_BROKERS_DOWN", "REQUEST_TIMED_OUT"}
SETTLE_SECONDS: Final = 5.0  # until every broker has heard of a change
# A relay whose clock is wrong must not make brokers delete what it has just written.
_BROKERS_TIME: Final = {"message.timestamp.type": "LogAppendTime"}


class Wanted(NamedTuple):
    """A topic that there must be."""

    name: str
    partitions: int
    config: Mapping[str, str]


class Remark(NamedTuple):
    """What somebody should know of a topic.

    "broken" cannot be used at all, "weak" promises less than it should and is refused unless that
    is allowed, "note" is said and no more.
    """

    level: Literal["broken", "weak", "note"]
    words: str


class Promise(NamedTuple):
    """What a 200 means, as the brokers are set."""

    in_sync: int
    replicas: int
    is_synced: bool
    remarks: tuple[Remark, ...]
    partition_bytes: int = 0  # kept of each partition of rows; 0: all
    kept_ms: int = 0  # and for how long; 0: for ever

    @property
    def words(self) -> str:
        """For `status`: how many have it, and how."""
        how = "fsynced" if self.is_synced else "replicated, not fsynced,"
        return f"{how} on {self.in_sync} of {self.replicas} brokers"

    def refusal(self, *, allow_weak: bool) -> str:
        """Why it must not be used; empty if it may."""
        refused = {"broken"} if allow_weak else {"broken", "weak"}
        return "; ".join(each.words for each in self.remarks if each.level in refused)


def wanted_topics(settings: KafkaSettings) -> list[Wanted]:
    """Every topic of the fleet, as it is to be."""
    fleet = settings.fleet
    kept = {
        "min.insync.replicas": str(fleet.min_in_sync),
        "unclean.leader.election.enable": "false",
    }
    if fleet.sync == "full":
        kept["flush.messages"] = "1"
    partition_bytes = max(2**20, fleet.retention_size_bytes // fleet.partitions)
    rows = {
        **kept,
        "cleanup.policy": "delete",
        "retention.ms": str(int(fleet.retention_seconds * 1000)),
        "retention.bytes": str(partition_bytes),
        "segment.ms": str(SEGMENT_MS),
        "segment.bytes": str(min(256 * 2**20, max(2**20, partition_bytes // 8))),
        "max.message.bytes": str(TOPIC_BYTES),
        **_BROKERS_TIME,
    }
    letters = {
        **kept,
        "cleanup.policy": "compact,delete",
        "retention.ms": str(LETTERS_MS),
        "max.message.bytes": str(LETTER_BYTES),
        **_BROKERS_TIME,
    }
    control = {**kept, "cleanup.policy": "compact"}
    history = {
        **kept,
        "cleanup.policy": "delete",
        "retention.ms": rows["retention.ms"],
        "retention.bytes": str(HISTORY_BYTES),
        **_BROKERS_TIME,
    }
    return [
        *(Wanted(name, fleet.partitions, rows) for name in settings.rows_topics),
        Wanted(settings.dead_letters_topic, 1, letters),
        Wanted(settings.control_topic, 1, control),
        Wanted(settings.history_topic, 1, history),
    ]


class Topics:
    """Looks after the topics, by an admin client of its own.

    `groups` are those whose rights are looked at, too.
    """

    def __init__(self, settings: KafkaSettings, groups: Collection[str] = ()) -> None:
        """Raises ConfigError where the client is not installed or cannot use its settings."""
        self.groups = groups
        self._settings = settings
        self._client: Client = import_client()
        self._wanted = wanted_topics(settings)
        self._access = Access()
        self._admin = Renewed(settings, self._make_admin)
        self._admin()  # whether it can be made

    @property
    def admin(self) -> Any:
        """The client, as the brokers are to be reached now."""
        return self._admin()

    def _make_admin(self) -> Any:
        self._access = access = Access()
        told, kind = self._settings.client(), self._client.admin.AdminClient
        return self._client.make(kind, told, error_cb=access.heard)

    def metadata(self, seconds: float = REQUEST_SECONDS) -> Any:
        """What the cluster is made of now. Raises BrokersAway."""
        admin, fleet, until = self.admin, self._settings.fleet, time.monotonic() + seconds
        is_guarded = fleet.ca_file is not None or fleet.sasl is not None
        step = _FIRST_SECONDS if is_guarded else seconds
        while True:
            try:
                found = admin.list_topics(timeout=step)
            except self._client.module.KafkaException as error:
                admin.poll(0)  # which lets the client say why
                left = until - time.monotonic()
                if left < _LEAST_SECONDS or self._access.is_refused(fleet):
                    raise self._access.explain(fleet, error.args[0].str()) from None
                step = min(2 * step, left)
                continue
            admin.poll(0)
            self._access.forget()
            return found

    def make_ready(self) -> Promise:
        """Make what is missing and set what is wrong, where they are ours; then say what holds.

        Raises BrokersAway.
        """
        if not self._settings.fleet.own_topics:
            return self.examine()
        there = self.metadata().topics
        remarks = (
            *self._create([each for each in self._wanted if each.name not in there]),
            *self._alter([each for each in self._wanted if each.name in there]),
        )
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            promise = self.examine(remarks)
            is_sound = not promise.refusal(allow_weak=False)
            if is_sound or remarks or time.monotonic() > deadline:
                return promise
            time.sleep(0.1)

    def examine(self, remarks: tuple[Remark, ...] = ()) -> Promise:
        """What the topics promise as they are. Raises BrokersAway."""
        there, read, lacking = self.metadata().topics, self._read_configs(), self.lacking()
        found, in_sync, replicas, is_synced = list(remarks), [], [], True
        found += [Remark(each.level, each.words(self._settings)) for each in lacking]
        told = " ".join(each.words for each in found).replace(",", " ").replace(":", " ").split()
        for wanted in self._wanted:
            topic = there.get(wanted.name)
            if topic is None or topic.error is not None:
                if wanted.name not in told:
                    found.append(Remark("broken", _missing(wanted, self._settings)))
                continue
            config = read.get(wanted.name)
            if config is None:
                if wanted.name not in told:
                    found.append(Remark("weak", f"the settings of {wanted.name} cannot be read"))
                continue
            copies = min((len(each.replicas) for each in topic.partitions.values()), default=0)
            found += _judge(wanted, config, copies, self._settings)
            in_sync.append(int(config.get("min.insync.replicas", "1")))
            replicas.append(copies)
            is_synced = is_synced and config.get("flush.messages") == "1"
        least = min(in_sync, default=0), min(replicas, default=0)
        rows = [read[name] for name in self._settings.rows_topics if name in read]
        return Promise(
            *least,
            is_synced and bool(in_sync),
            tuple(found),
            min(_limits(rows, "retention.bytes"), default=0),
            min(_limits(rows, "retention.ms"), default=0),
        )

    def ends(self, partitions: Mapping[str, int]) -> dict[tuple[str, int], int]:
        """The offset after the last record of each partition. Raises BrokersAway."""
        module, latest = self._client.module, self._client.admin.OffsetSpec.latest()
        asked = {
            module.TopicPartition(topic, number): latest
            for topic, count in partitions.items()
            for number in range(count)
        }
        found = {}
        for partition, answer in self.admin.list_offsets(asked).items() if asked else ():
            try:
                found[partition.topic, partition.partition] = self._result(answer).offset
            except module.KafkaException as error:
                raise BrokersAway(f"no broker answers: {error.args[0].str()}") from None
        return found

    def _result(self, answer: Any) -> Any:
        """What was asked for. Raises BrokersAway where nobody answers, and KafkaException."""
        try:
            return answer.result(REQUEST_SECONDS)
        except TimeoutError:
            raise BrokersAway(f"no broker answers within {REQUEST_SECONDS:g} s") from None
        except self._client.module.KafkaException as error:
            if error.args[0].name() in _AWAY:
                raise BrokersAway(f"no broker answers: {error.args[0].str()}") from None
            raise

    def lacking(self, *, of_groups: bool = True) -> list[Lacking]:
        """What this relay may not do to topics and groups, though it must.

        Groups are asked for only where brokers ask who comes: it takes a process of its own.
        """
        fleet = self._settings.fleet
        is_guarded = fleet.ca_file is not None or fleet.sasl is not None
        groups = self.groups if of_groups and is_guarded else ()
        wanted = wanted_rights(self._settings, [each.name for each in self._wanted])
        found = lacking_rights(self._client, self.admin, self._settings, wanted, groups)
        if groups and fleet.keep_delivered_seconds is not None:
            with suppress(self._client.module.KafkaException):
                hidden = hidden_groups(self._client, self._settings)
                found += [hidden] if hidden is not None else []
        return found

    def _create(self, missing: list[Wanted]) -> list[Remark]:
        """Create them; what cannot be created is told."""
        admin, replication = self._client.admin, self._settings.fleet.replication
        if not missing:
            return []
        new = [
            admin.NewTopic(each.name, each.partitions, replication, config=dict(each.config))
            for each in missing
        ]
        return list(self._failures(self.admin.create_topics(new), "cannot be created", "Create"))

    def _alter(self, there: list[Wanted]) -> list[Remark]:
        """Set what is set otherwise, and nothing else."""
        admin, read = self._client.admin, self._read_configs()
        changes = []
        for wanted in there:
            config = read.get(wanted.name, wanted.config)
            entries = [
                admin.ConfigEntry(key, it, incremental_operation=admin.AlterConfigOpType.SET)
                for key, it in wanted.config.items()
                if config.get(key) != it
            ]
            if entries:
                kind = admin.ConfigResource.Type.TOPIC
                changes.append(admin.ConfigResource(kind, wanted.name, incremental_configs=entries))
        if not changes:
            return []
        answers = self.admin.incremental_alter_configs(changes)
        named = {resource.name: answer for resource, answer in answers.items()}
        failures = self._failures(named, "cannot be set", "AlterConfigs")
        return [each._replace(level="note") for each in failures]

    def _failures(self, answers: Mapping[str, Any], what: str, right: str) -> Iterator[Remark]:
        refused = []
        for name, answer in answers.items():
            try:
                self._result(answer)
            except self._client.module.KafkaException as error:
                if error.args[0].name() in REFUSED:
                    refused.append(name)
                elif error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                    yield Remark("broken", f"topic {name} {what}: {error.args[0].str()}")
        if refused:
            lacking = Lacking("topic", (right,), tuple(refused))
            yield Remark("broken", lacking.words(self._settings))

    def _read_configs(self) -> dict[str, dict[str, str]]:
        """The settings in force of each topic that may be asked for them."""
        admin = self._client.admin
        kind = admin.ConfigResource.Type.TOPIC
        found = {}
        for wanted in self._wanted:  # all of a call fail where one does
            (answer,) = self.admin.describe_configs(
                [admin.ConfigResource(kind, wanted.name)]
            ).values()
            try:
                entries = self._result(answer)
            except self._client.module.KafkaException:
                continue
            found[wanted.name] = {key: entry.value or "" for key, entry in entries.items()}
        return found


def _limits(configs: Iterable[Mapping[str, str]], key: str) -> Iterator[int]:
    """The values of a limit where there is one: -1 is none."""
    return (limit for each in configs if (limit := int(each.get(key) or -1)) > 0)


def _missing(wanted: Wanted, settings: KafkaSettings) -> str:
    settings_line = " ".join(f"--config {key}={it}" for key, it in wanted.config.items())
    return (
        f"there is no topic {wanted.name}: kafka-topics.sh --bootstrap-server "
        f"{settings.fleet.brokers[0]} --create --topic {wanted.name} "
        f"--partitions {wanted.partitions} --replication-factor {settings.fleet.replication} "
        f"{settings_line}"
    )


def _judge(
    wanted: Wanted, config: Mapping[str, str], copies: int, settings: KafkaSettings
) -> Iterator[Remark]:
    """What one topic promises less than it should."""
    fleet, name = settings.fleet, wanted.name
    in_sync = int(config.get("min.insync.replicas", "1"))
    if in_sync > copies:
        words = f"{name} has {copies} replicas and min.insync.replicas={in_sync}: it takes nothing"
        yield Remark("broken", words)
    if copies < fleet.replication:
        yield Remark("weak", f"{name} has {copies} replicas, not {fleet.replication}")
    if in_sync < fleet.min_in_sync:
        yield Remark("weak", f"{name} has min.insync.replicas={in_sync}, not {fleet.min_in_sync}")
    if config.get("unclean.leader.election.enable") == "true":
        words = f"{name} may elect a leader that lacks what was acknowledged: set "
        yield Remark("weak", f"{words}unclean.leader.election.enable=false")
    if fleet.sync == "full" and config.get("flush.messages") != "1":
        words = f"{name} is not synced to disk before the acknowledgement: set flush.messages=1, "
        yield Remark("weak", f'{words}or sync = "replicated"')
    if wanted.name in settings.rows_topics:
        yield from _judge_rows(name, config, settings)


def _judge_rows(name: str, config: Mapping[str, str], settings: KafkaSettings) -> Iterator[Remark]:
    fleet = settings.fleet
    if "compact" in config.get("cleanup.policy", ""):
        yield Remark("broken", f"{name} is compacted: set cleanup.policy=delete")
    most = int(config.get("max.message.bytes", "0"))
    if most < LEAST_TOPIC_BYTES:
        words = f"{name} takes no message above {most:,} bytes: set max.message.bytes=8388608"
        yield Remark("weak", words)
    if config.get("message.timestamp.type") != "LogAppendTime":
        words = (
            f"{name} goes by the clocks of senders: one that is wrong by more than the retention "
        )
        yield Remark("note", f"{words}loses its rows; set message.timestamp.type=LogAppendTime")
    kept_ms = int(config.get("retention.ms", "-1"))
    if 0 <= kept_ms < int(fleet.retention_seconds * 1000):
        words = f"{name} deletes what is older than {about_duration(kept_ms / 1000)}, owed or not"
        yield Remark("note", words)
    kept_bytes = int(config.get("retention.bytes", "-1"))
    if 0 <= kept_bytes < fleet.retention_size_bytes // fleet.partitions:
        size = format_size(kept_bytes)
        yield Remark("note", f"{name} deletes what is above {size} a partition, owed or not")
