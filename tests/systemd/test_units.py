"""What systemd itself says of the units."""

import re

import pytest

from tests.systemd.machine import Machine

UNITS = ("otlp-relay.service", "otlp-relay.socket")
MOST_EXPOSURE = 1.5


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_nothing_to_say_about_a_unit(machine: Machine, unit: str) -> None:
    done = machine.run("systemd-analyze", "verify", f"/lib/systemd/system/{unit}", check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_finds_nothing_to_say_about_the_unit_of_a_user(machine: Machine) -> None:
    unit = "/usr/lib/systemd/user/otlp-relay.service"
    done = machine.run("systemd-analyze", "--user", "verify", unit, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_service_is_exposed_no_more_than_it_has_to_be(machine: Machine) -> None:
    told = machine.run("systemd-analyze", "--no-pager", "security", UNITS[0], check=False).stdout

    found = re.search(r"Overall exposure level for otlp-relay.service: (\d+\.\d+)", told)
    assert found, told
    print(f"\nsystemd-analyze security otlp-relay: {found[1]}")
    assert float(found[1]) <= MOST_EXPOSURE, told
