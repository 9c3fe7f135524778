"""Whose account may read a path, and that commands name it."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.cli.client import DaemonClient, DaemonUnreachable
from relay.config import ListenAddress
from relay.config.load import load
from relay.model.errors import ConfigError
from relay.model.run_as_hint import account_of, hint_for

# There in every Linux, user and group of one name.
DAEMON = 1
NOBODY = 65_534


@pytest.mark.parametrize(
    ("uid", "gid", "mode", "account"),
    [
        (0, 0, 0o100640, "root"),
        (0, DAEMON, 0o100640, "daemon"),
        (0, DAEMON, 0o100600, "root"),
        (0, 3_999_999, 0o100640, "root"),
        (DAEMON, 0, 0o40700, "daemon"),
        (3_999_999, 0, 0o40700, "'#3999999'"),
    ],
)
def test_account_is_the_owner_or_the_user_whose_group_may_read(
    uid: int, gid: int, mode: int, account: str
) -> None:
    assert account_of(uid, gid, mode) == account


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """While it lasts we may not read `path`: root becomes nobody, others take the right away."""
    mode = path.stat().st_mode
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    else:
        path.chmod(0)
    try:
        yield
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        path.chmod(mode)


def test_closed_configuration_is_an_error_that_names_the_account(open_folder: Path) -> None:
    config = open_folder / "relay.toml"
    config.write_text("")
    config.chmod(0o600)
    with unreadable(config), pytest.raises(ConfigError) as error:
        load(config, {"HOME": "/"})

    assert "Permission denied" in str(error.value)
    assert hint_for(config) in str(error.value)


def test_closed_folder_of_the_configuration_is_one_too(open_folder: Path) -> None:
    folder = open_folder / "etc"
    folder.mkdir(mode=0o700)
    with unreadable(folder), pytest.raises(ConfigError) as error:
        load(folder / "relay.toml", {"HOME": "/"})

    assert hint_for(folder) in str(error.value)


def test_closed_state_directory_is_an_error_that_names_the_account(open_folder: Path) -> None:
    state_dir = open_folder / "state"
    state_dir.mkdir(mode=0o700)
    (state_dir / "admin-token").write_text("x\n")
    client = DaemonClient(ListenAddress("127.0.0.1", 1), state_dir)
    with unreadable(state_dir), pytest.raises(DaemonUnreachable) as error:
        client.get("/api/status")

    assert error.value.hint == hint_for(state_dir)
