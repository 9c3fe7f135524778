"""Watches the cluster from a thread: whether it takes requests now, and into which partitions.

Requests alone would tell too late, and nothing at all while none come. So the cluster's metadata is
asked for every two seconds, twice a second while something is wrong.
"""

import threading
import time
from collections.abc import Mapping
from typing import Any, Final

import structlog

from relay.buffer.kafka.access import BrokersAway
from relay.buffer.kafka.own_certificate import look_at_own
from relay.buffer.kafka.rights import Lacking
from relay.buffer.kafka.settings import KafkaSettings
from relay.buffer.kafka.topics import Promise, Topics
from relay.model.errors import ConfigError

log = structlog.stdlib.get_logger(__name__)

EVERY_SECONDS: Final = 2.0
SOON_SECONDS: Final = 0.5
MEASURE_SECONDS: Final = 10.0
RIGHTS_SECONDS: Final = 30.0  # and sooner where there is reason
CERTIFICATE_SECONDS: Final = 3600.0  # and after each reload that changes how brokers are reached
AWAY_SECONDS: Final = 5.0  # a single broker that hangs may be the one that was asked
_ANSWER_SECONDS = 1.5
_REMIND_SECONDS = 60.0
_NEWS_SECONDS = 5.0  # another reason, so long after the one before


class Watch:
    """What is known of the cluster. `look` and the thread write it, the event loop reads it."""

    def __init__(self, settings: KafkaSettings, topics: Topics) -> None:
        self._settings = settings
        self._topics = topics
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-watch", daemon=True)
        self._answered = 0.0
        self._told = 0.0
        self._said = ""  # empty: all was well
        self._measured = 0.0
        self._asked = 0.0  # for rights
        self.is_doubted = False  # something was not kept: is it for want of a right?
        self.lacking: tuple[Lacking, ...] = ()
        self._seen: tuple[int, float] | None = None  # the settings' version, and when
        self.certificate = ""  # that this relay's own expires soon
        self.promise: Promise | None = None
        # Partitions of each topic of rows, and those of them that take requests now.
        self.partitions: Mapping[str, int] = {}
        self.usable: Mapping[str, tuple[int, ...]] = {}
        self.ends: Mapping[tuple[str, int], int] = {}  # offsets after the last record, seconds old
        self.problem = "no broker has answered yet"

    def start(self) -> None:
        """Look once a while from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End; waits for the look that is under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def check(self) -> None:
        """Make the topics ready, see what they promise, and look.

        Raises BrokersAway, and ConfigError where they promise too little: then nothing is taken.
        """
        promise = self._topics.make_ready()
        why = promise.refusal(allow_weak=self._settings.fleet.allow_weak)
        if why:
            self.problem = why
            is_weak = not promise.refusal(allow_weak=True)
            hint = "for a trial write allow_weak = true" if is_weak else None
            raise ConfigError(why, key="fleet", hint=hint)
        self.promise = promise
        log.info("fleet_ready", promise=promise.words)
        for remark in promise.remarks:
            log.warning("fleet_topic", level=remark.level, message=remark.words)
        self.look()

    def look(self) -> None:
        """Ask the cluster once. Raises BrokersAway."""
        metadata = self._topics.metadata(_ANSWER_SECONDS)
        self._answered = time.monotonic()
        rows = self._settings.rows_topics
        self.is_doubted = self.is_doubted or not rows.keys() <= metadata.topics.keys()
        self._look_at_rights()
        self._look_at_certificate()
        partitions, usable, why = {}, {}, self._forbidden
        for name in rows:
            topic = metadata.topics.get(name)
            if topic is None or topic.error is not None or not topic.partitions:
                why = why or f"there is no topic {name} any more"
                continue
            partitions[name] = len(topic.partitions)
            usable[name] = tuple(sorted(self._usable(topic)))
            if not usable[name]:
                why = self._lacking(name, topic)
        self.partitions, self.usable = partitions, usable
        self._set(why)

    def _look_at_rights(self) -> None:
        """Once a while, and while one is lacking or something speaks for it."""
        every = EVERY_SECONDS if self.lacking or self.is_doubted else RIGHTS_SECONDS
        if time.monotonic() - self._asked < every:
            return
        has_reason = bool(self.lacking) or self.is_doubted
        lacking = tuple(self._topics.lacking(of_groups=has_reason))
        for each in lacking:
            if each not in self.lacking:
                log.warning("fleet_right_lacking", message=each.words(self._settings))
        if self.lacking and not lacking:
            log.info("fleet_rights_back")
        self.lacking, self.is_doubted, self._asked = lacking, False, time.monotonic()

    def _look_at_certificate(self) -> None:
        version, now = self._settings.version, time.monotonic()
        if self._seen and self._seen[0] == version and now - self._seen[1] < CERTIFICATE_SECONDS:
            return
        self._seen = version, now
        self.certificate = look_at_own(self._settings.fleet).warning
        if self.certificate:
            log.warning("fleet_certificate_expires", message=self.certificate)

    @property
    def _forbidden(self) -> str:
        """Why nothing may be written, by rights; empty if it may."""
        rows = self._settings.rows_topics.keys()
        return next(
            (
                each.words(self._settings)
                for each in self.lacking
                if "Write" in each.operations and not rows.isdisjoint(each.names)
            ),
            "",
        )

    def _measure(self) -> None:
        if time.monotonic() - self._measured > MEASURE_SECONDS:
            self.ends = self._topics.ends(self.partitions)
            self._measured = time.monotonic()

    def _usable(self, topic: Any) -> list[int]:
        least = self.promise.in_sync if self.promise else 1
        return [
            number
            for number, each in topic.partitions.items()
            if each.leader >= 0 and len(each.isrs) >= least
        ]

    def _lacking(self, name: str, topic: Any) -> str:
        best = max((len(each.isrs) for each in topic.partitions.values()), default=0)
        least = self.promise.in_sync if self.promise else 1
        if best >= least:
            return f"no partition of {name} has a leader"
        return f"{best} of the brokers of {name} are in sync, and it needs {least}"

    def _set(self, why: str) -> None:
        patience = _REMIND_SECONDS if why == self._said else _NEWS_SECONDS
        if why and (not self._said or time.monotonic() - self._told > patience):
            log.warning("fleet_away", reason=why)
            self._said, self._told = why, time.monotonic()
        if not why and self._said:
            log.info("fleet_back")
            self._said = ""
        self.problem = why

    def set_away(self, error: BrokersAway) -> None:
        """No broker answers or lets this relay in: nothing is taken until one does."""
        self._set(str(error))

    def _run(self) -> None:
        while not self._stop.wait(SOON_SECONDS if self.problem else EVERY_SECONDS):
            try:
                if self.promise is None:
                    self.check()
                else:
                    self.look()
                    self._measure()
            except BrokersAway as error:
                if time.monotonic() - self._answered > AWAY_SECONDS:
                    self.set_away(error)
            except ConfigError as error:
                self._set(error.message)
                self._stop.wait(EVERY_SECONDS * 5)
            except Exception:
                # Whatever it was, the next look may do: a watch that has ended would answer 503
                # for ever.
                log.exception("fleet_watch_failed")
