"""A relay without a fleet loads nothing of one, and says plainly what a fleet needs."""

from pathlib import Path

from tests.support.relay_process import Relay, eventually

ENGINE = "kafka"


def test_relay_of_its_own_has_no_client_in_memory_and_no_thread_of_one(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        assert relay.process is not None
        process = Path(f"/proc/{relay.process.pid}")
        assert ENGINE not in (process / "maps").read_text()
        names = {(task / "comm").read_text() for task in (process / "task").iterdir()}
        assert not {name for name in names if ENGINE in name or "rdk" in name}


def test_fleet_whose_library_is_absent_says_how_to_install_it(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    (absent / "confluent_kafka").mkdir(parents=True)
    (absent / "confluent_kafka" / "__init__.py").write_text("raise ImportError")
    table = '[fleet]\nengine = "kafka"\nbrokers = ["127.0.0.1:1"]\n'
    relay = Relay(
        tmp_path, settings=table, environ={"PYTHONPATH": str(absent)}, command=("-m", "relay.cli")
    )
    relay.start(wait=False)
    assert relay.wait() != 0
    eventually(lambda: "pip install 'otlp-relay[fleet]'" in relay.log(), what="the remedy")


def test_commands_about_the_file_of_a_relay_say_where_a_fleet_keeps_what_it_has(
    tmp_path: Path,
) -> None:
    table = '[fleet]\nengine = "kafka"\nbrokers = ["k1:9092"]\n'
    relay = Relay(tmp_path, settings=table)
    for command in ("buffer check", "buffer export"):
        done = relay.run(command)
        assert done.returncode == 1
        assert "the log of a fleet is on Kafka" in done.stderr
        assert "k1:9092" in done.stderr
