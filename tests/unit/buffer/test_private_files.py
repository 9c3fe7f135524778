"""The state directory where other users can read or write: what is planted, what is closed."""

import os
import stat
from pathlib import Path

import pytest
import structlog

from relay.admin.token import read, read_or_make
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.private_files import exposures, make_private, open_private
from relay.model.counters import Counters
from relay.model.errors import BufferUnusable
from tests.unit.buffer.making import SETTINGS, opened, piece, request, take_all

pytestmark = pytest.mark.anyio
FILES: tuple[str, ...] = (
    "lock",
    "reserve",
    "last-row",
    "last-row.new",
    "admin-token",
    "admin-token.new",
)
FILES += ("relay.db", "relay.db-wal", "relay.db.corrupt-20260101T000000Z")
SOMEBODY = 12345


def modes(state_dir: Path) -> dict[str, int]:
    return {path.name: mode(path) for path in state_dir.iterdir()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def put(path: Path, text: str, mode: int) -> None:
    path.write_text(text)
    path.chmod(mode)


def open_up(state_dir: Path) -> None:
    state_dir.chmod(0o777)
    for path in state_dir.iterdir():
        path.chmod(0o666)


@pytest.mark.parametrize("name", FILES)
def test_start_follows_no_link_out_of_the_directory(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    state_dir = tmp_path / "state"
    state_dir.mkdir(mode=0o777)
    (state_dir / name).symlink_to(victim)

    with pytest.raises(BufferUnusable, match=f"{name} is a symbolic link") as refusal:
        Buffer(state_dir, SETTINGS, Counters()).open()

    assert "remove the link" in (refusal.value.hint or "")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_file_of_another_user_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"planted")
    os.chown(tmp_path / name, SOMEBODY, SOMEBODY)

    with pytest.raises(BufferUnusable, match=rf"{name} belongs to #{SOMEBODY}, not to root"):
        Buffer(tmp_path, SETTINGS, Counters()).open()

    assert (tmp_path / name).read_bytes() == b"planted"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a directory away")
def test_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, SOMEBODY, SOMEBODY)

    with pytest.raises(BufferUnusable, match=rf"belongs to #{SOMEBODY}, not to root"):
        Buffer(tmp_path, SETTINGS, Counters()).open()

    assert not list(tmp_path.iterdir())


async def test_wide_modes_are_narrowed_and_said_and_what_is_kept_stays(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        buffer.consumer("a")
        await buffer.append(request(piece(b"kept")))
    open_up(tmp_path)

    with structlog.testing.capture_logs() as events:
        async with opened(tmp_path) as buffer:
            assert await take_all(buffer.consumer("a")) == [b"kept"]

    told = {event["path"]: event["mode"] for event in events if event["event"].startswith("state")}
    assert set(modes(tmp_path).values()) == {0o600}
    assert mode(tmp_path) == 0o700
    assert told[str(tmp_path)] == "0777"
    assert told[str(tmp_path / "relay.db")] == "0666"
    assert {Path(path).name for path in told} >= {"lock", "last-row", "reserve"}


def test_sharing_with_a_group_is_closed_too(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    make_private(tmp_path)
    assert mode(tmp_path) == 0o700


async def test_token_that_others_could_read_or_write_is_made_anew(tmp_path: Path) -> None:
    put(tmp_path / "admin-token", "planted\n", 0o644)
    async with opened(tmp_path):
        token = read_or_make(tmp_path)

    assert token != "planted"
    assert len(token) == 43
    assert modes(tmp_path)["admin-token"] == 0o600
    assert read(tmp_path) == token == read_or_make(tmp_path)


def test_token_is_never_written_into_a_file_that_is_there(tmp_path: Path) -> None:
    held = (tmp_path / "admin-token.new").open("w+")
    (tmp_path / "victim").write_text("precious")
    token = read_or_make(tmp_path)
    (tmp_path / "admin-token").unlink()
    (tmp_path / "admin-token.new").symlink_to("victim")
    read_or_make(tmp_path)

    assert token not in held.read()
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (tmp_path / "admin-token").is_symlink()
    held.close()


def test_token_behind_a_link_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("known")
    (tmp_path / "admin-token").symlink_to("elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["reserve", "last-row"])
async def test_pipe_in_the_place_of_a_file_holds_nobody_up(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name, 0o600)
    async with opened(tmp_path) as buffer:
        buffer.consumer("a")
        await buffer.append(request(piece(b"kept")))
        assert await take_all(buffer.consumer("a")) == [b"kept"]


@pytest.mark.parametrize("name", ["lock", "reserve", "last-row", "relay.db-wal"])
def test_no_file_is_opened_through_a_link(tmp_path: Path, name: str) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / name).symlink_to("victim")
    with pytest.raises(OSError, match="symbolic links"):
        open_private(tmp_path / name, os.O_RDWR | os.O_CREAT)


def test_files_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    put(tmp_path / "notes.txt", "mine", 0o644)
    put(tmp_path / "lock", "", 0o600)  # this one is, and private
    (tmp_path / "other").symlink_to("notes.txt")
    tmp_path.chmod(0o700)
    assert list(exposures(tmp_path)) == []
    make_private(tmp_path)
    assert modes(tmp_path)["notes.txt"] == 0o644


@pytest.mark.parametrize("content", [(), ("relay.db", "destinations.d", "lock")])
def test_directory_that_others_can_read_is_closed_where_it_is_ours_alone(
    tmp_path: Path, content: tuple[str, ...]
) -> None:
    for name in content:
        (tmp_path / name).mkdir()
    tmp_path.chmod(0o755)
    make_private(tmp_path)
    assert mode(tmp_path) == 0o700


def test_directory_that_serves_others_too_is_not_closed_to_them(tmp_path: Path) -> None:
    """A state directory of /var/lib must not end what else lives there; our files are closed."""
    put(tmp_path / "relay.db", "", 0o644)
    put(tmp_path / "of-another-program", "", 0o644)
    tmp_path.chmod(0o755)
    with structlog.testing.capture_logs() as events:
        make_private(tmp_path)

    assert mode(tmp_path) == 0o755
    assert modes(tmp_path) == {"relay.db": 0o600, "of-another-program": 0o644}
    assert [event["event"] for event in events] == ["state_stays_open", "state_made_private"]
    assert any("state_dir should be one of its own" in each.words for each in exposures(tmp_path))


def test_directory_that_all_users_share_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(BufferUnusable, match="is shared by all users") as refusal:
        make_private(tmp_path)
    assert refusal.value.hint == "set state_dir to a directory of its own"
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o1777


def test_each_of_our_files_is_looked_at_whatever_stands_or_goes_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("another", "last-row", "lock", "relay.db"):
        put(tmp_path / name, "", 0o640)
    (tmp_path / "reserve").symlink_to("another")
    tmp_path.chmod(0o700)
    lstat = Path.lstat

    def gone(path: Path) -> os.stat_result:
        if path.name == "last-row":
            raise FileNotFoundError
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", gone)
    found = {each.path.name: each.mode for each in exposures(tmp_path)}
    assert found == {"lock": 0o640, "relay.db": 0o640, "reserve": 0}  # a link is not narrowed


@pytest.mark.parametrize(
    ("mode", "words", "narrowed"),
    [
        (0o1777, "is shared by all users (mode 1777)", 0),
        (0o1755, "has mode 1755, open to other users: at the next start it becomes 1700", 0o1755),
        (0o777, "has mode 0777, open to other users: at the next start it becomes 0700", 0o777),
    ],
)
def test_directory_that_is_open_is_told_by_its_mode(
    tmp_path: Path, mode: int, words: str, narrowed: int
) -> None:
    tmp_path.chmod(mode)
    (found,) = exposures(tmp_path)
    tmp_path.chmod(0o700)
    assert (found.words, found.mode) == (f"{tmp_path} {words}", narrowed)


def test_token_that_others_may_read_is_told_to_be_replaced(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    put(tmp_path / "admin-token", "known", 0o604)
    put(tmp_path / "lock", "", 0o604)
    token, lock = exposures(tmp_path)
    assert token.words.endswith(
        "has mode 0604, open to other users: at the next start it is replaced"
    )
    assert lock.words.endswith("at the next start it becomes 0600")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_file_of_another_is_told_by_both_owners_and_not_narrowed(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    put(tmp_path / "lock", "", 0o666)
    os.chown(tmp_path / "lock", SOMEBODY, SOMEBODY)
    (found,) = exposures(tmp_path)
    assert found.words == f"{tmp_path}/lock belongs to #{SOMEBODY}, not to root"
    assert (found.mode, "chown root" in found.hint) == (0, True)
