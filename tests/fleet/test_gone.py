"""What waits for a destination that no relay knows any more can still be dropped."""

import signal
from pathlib import Path

from confluent_kafka.admin import AdminClient

from tests.fleet.fleets import relay_of
from tests.support.builders import request, span
from tests.support.kafka import Brokers
from tests.support.ports import free_port
from tests.support.relay_process import eventually

GROUP = "otlp-relay.prod.old"


def test_what_waits_for_one_that_left_in_an_earlier_reload_is_dropped_by_name(
    broker: Brokers, tmp_path: Path
) -> None:
    admin = AdminClient({"bootstrap.servers": ",".join(broker.bootstrap)})

    def groups() -> set[str]:
        return {each.group_id for each in admin.list_consumer_groups().result(30).valid}

    away = {"endpoint": f"http://127.0.0.1:{free_port()}/v1/traces"}
    with relay_of(broker, tmp_path / "a", {"up": away, "old": away}) as relay:
        assert relay.post(request(span()))[0] == 200
        eventually(lambda: relay.owed("old") == 1, what="owed")
        eventually(lambda: GROUP in groups(), what="the group")
        text = relay.config.read_text()
        relay.config.write_text(text[: text.index("[destinations.old]")])
        relay.signal(signal.SIGHUP)
        eventually(lambda: '"reloaded"' in relay.log(), what="reloaded")

        asked = relay.run("destination remove", "old")
        assert asked.returncode == 1
        assert "destination remove old --drop-waiting` drops what" in asked.stdout + asked.stderr
        done = relay.run("destination remove", "old", "--drop-waiting")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "what the brokers kept for old was dropped" in done.stdout
        assert GROUP not in groups()
        again = relay.run("destination remove", "old", "--drop-waiting")
        assert again.returncode == 1
        assert "there is no destination 'old'" in again.stdout + again.stderr
