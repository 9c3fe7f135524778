"""Saved destinations: whole or not there, closed to others, and never in a person's way."""

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config import saved
from relay.config.saved import MARKER, NotSaved

TABLE = {
    "preset": "axiom",
    "max_batch_items": 100,
    "paused": True,
    "headers": {"Authorization": "Bearer ${env:TOKEN}", "X-Axiom-Dataset": "traces"},
}
PERSONS = 'endpoint = "http://127.0.0.1:1/v1/traces"\n'
# What Python can hold and TOML can: no lone surrogates.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "destinations.d"


def test_saved_file_reads_back_as_the_table_behind_the_marker(folder: Path) -> None:
    path = saved.save(folder, "axiom", TABLE, notes=["Tested."])

    assert path == folder / "axiom.toml"
    assert tomllib.loads(path.read_text()) == TABLE
    assert path.read_text().splitlines()[0].startswith(MARKER)
    assert "# Tested." in path.read_text().splitlines()
    assert saved.is_ours(path)
    assert list(folder.iterdir()) == [path]


@given(st.dictionaries(TEXT, TEXT), TEXT, st.lists(st.text(), max_size=3))
def test_any_text_is_written_as_it_is_and_no_note_becomes_a_key(
    headers: dict[str, str], endpoint: str, notes: list[str]
) -> None:
    table = {"endpoint": endpoint, "headers": headers}

    assert tomllib.loads(saved.compose(table, notes)) == table


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o177])
def test_file_is_0600_and_a_new_folder_0700_whatever_the_umask(folder: Path, umask: int) -> None:
    nested = folder / "further" / "down"
    before = os.umask(umask & 0o077)
    try:
        saved.save(nested, "first", TABLE)
        os.umask(umask)
        path = saved.save(nested, "one", TABLE)
    finally:
        os.umask(before)

    assert mode(path) == 0o600
    assert [mode(each) for each in (nested, nested.parent, folder)] == [0o700] * 3


def test_owner_of_file_and_folder_is_that_of_where_they_stand(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[str, int, int]] = []
    real = os.readlink
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        os,
        "fchown",
        lambda fd, uid, gid: given.append((real(f"/proc/self/fd/{fd}"), uid, gid)),
    )
    saved.save(folder, "one", TABLE)

    above = folder.parent.stat()
    assert given[0] == (str(folder), above.st_uid, above.st_gid)
    assert given[1][0].startswith(f"{folder}/.one.toml.")
    assert given[1][1:] == (folder.stat().st_uid, folder.stat().st_gid)


def test_folder_of_another_user_is_refused_where_the_file_could_not_be_given_away(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    real = os.fstat

    def foreign(descriptor: int) -> os.stat_result:
        found = real(descriptor)
        if not stat.S_ISDIR(found.st_mode):
            return found
        return os.stat_result((*found[:4], found.st_uid + 1, *found[5:10]))

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "fstat", foreign)
    with pytest.raises(NotSaved, match="another user"):
        saved.save(folder, "one", TABLE)

    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("may_replace", [False, True])
def test_file_of_a_person_is_never_replaced_or_deleted(folder: Path, may_replace: bool) -> None:
    folder.mkdir()
    path = folder / "mine.toml"
    path.write_text(PERSONS)
    with pytest.raises(NotSaved, match=str(path)):
        saved.save(folder, "mine", TABLE, may_replace=may_replace)
    with pytest.raises(NotSaved, match=str(path)):
        saved.delete(path)

    assert path.read_text() == PERSONS
    assert list(folder.iterdir()) == [path]


def test_marker_that_is_not_on_the_first_line_makes_no_file_ours(folder: Path) -> None:
    folder.mkdir()
    path = folder / "mine.toml"
    path.write_text(f"# my own\n{MARKER}\n{PERSONS}")

    assert not saved.is_ours(path)


def test_link_is_a_persons_work_even_to_a_file_of_ours(folder: Path) -> None:
    real = saved.save(folder, "real", TABLE)
    link = folder / "link.toml"
    link.symlink_to(real)
    with pytest.raises(NotSaved):
        saved.save(folder, "link", {"endpoint": "x"}, may_replace=True)
    with pytest.raises(NotSaved):
        saved.delete(link)

    assert link.is_symlink()
    assert tomllib.loads(real.read_text()) == TABLE


def test_link_to_nothing_takes_the_name_too(folder: Path) -> None:
    folder.mkdir()
    (folder / "gone.toml").symlink_to(folder / "nowhere")
    with pytest.raises(NotSaved, match=r"gone\.toml"):
        saved.save(folder, "gone", TABLE)

    assert not (folder / "nowhere").exists()


def test_own_file_is_replaced_only_where_that_is_asked_for(folder: Path) -> None:
    path = saved.save(folder, "one", TABLE)
    path.chmod(0o644)
    with pytest.raises(NotSaved, match="--replace"):
        saved.save(folder, "one", {"endpoint": "new"})
    assert tomllib.loads(path.read_text()) == TABLE
    saved.save(folder, "one", {"endpoint": "new"}, may_replace=True)

    assert tomllib.loads(path.read_text()) == {"endpoint": "new"}
    assert mode(path) == 0o600


@pytest.mark.parametrize("failing", ["rename", "fsync", "fchmod"])
def test_disk_that_refuses_leaves_what_stood_there_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = saved.save(folder, "one", TABLE)

    def refuse(*_args: Any, **_more: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, refuse)
    with pytest.raises(NotSaved, match="No space left"):
        saved.save(folder, "one", {"endpoint": "new"}, may_replace=True)

    assert tomllib.loads(path.read_text()) == TABLE
    assert list(folder.iterdir()) == [path]


def test_contents_are_synced_before_the_rename_and_the_folder_after_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    steps: list[str] = []
    fsync, rename = os.fsync, os.rename

    def told_fsync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        steps.append("sync folder" if is_folder else f"sync {os.fstat(descriptor).st_size} bytes")
        fsync(descriptor)

    def told_rename(*args: Any, **more: Any) -> None:
        steps.append("rename")
        rename(*args, **more)

    monkeypatch.setattr(os, "fsync", told_fsync)
    monkeypatch.setattr(os, "rename", told_rename)
    path = saved.save(folder, "one", TABLE)
    saved.delete(path)

    size = len(saved.compose(TABLE).encode())
    assert steps == [f"sync {size} bytes", "rename", "sync folder", "sync folder"]


def test_deleted_file_is_gone(folder: Path) -> None:
    saved.delete(saved.save(folder, "one", TABLE))

    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "-x", "a.b", "ü"])
def test_name_that_is_none_reaches_no_disk(folder: Path, name: str) -> None:
    with pytest.raises(NotSaved, match="invalid name"):
        saved.save(folder, name, TABLE)

    assert not folder.exists()


def test_value_that_is_no_utf_8_is_refused_without_showing_it(folder: Path) -> None:
    with pytest.raises(NotSaved, match="UTF-8") as caught:
        saved.save(folder, "one", {"headers": {"A": "s3cr3t\udcff"}})

    assert "s3cr3t" not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert not folder.exists()
