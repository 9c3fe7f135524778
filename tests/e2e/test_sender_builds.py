"""Recipes go in; one finished build comes out, or a sentence that says what is missing."""

import re
from pathlib import Path

import pytest

from tests.e2e import sender_builds
from tests.e2e.sender_builds import PROGRAMS, WEB, Recipe, SenderBuildError, built, command_of

pytestmark = pytest.mark.e2e

COUNTING = ("sh", "-c", 'echo made >> "$0/count" && cat word > product')


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """One that notes in `count` each time it is made."""
    monkeypatch.setattr(sender_builds, "SOURCES", tmp_path / "senders")
    monkeypatch.setattr(sender_builds, "CACHE", tmp_path / "cache")
    (tmp_path / "senders" / "shell").mkdir(parents=True)
    (tmp_path / "senders" / "shell" / "word").write_text("one")
    return Recipe("shell", steps=((*COUNTING, str(tmp_path)),), keep=("product",))


def test_build_is_made_once_and_again_when_its_source_has_changed(
    tmp_path: Path, recipe: Recipe
) -> None:
    first, second = built(recipe), built(recipe)
    (recipe.source / "word").write_text("two")
    third = built(recipe)

    assert first == second != third
    assert [(each / "product").read_text() for each in (first, third)] == ["one", "two"]
    assert (tmp_path / "count").read_text() == "made\n" * 2
    assert not list((tmp_path / "cache").glob("building-*"))


def test_failed_step_says_what_it_printed_and_leaves_no_build(
    tmp_path: Path, recipe: Recipe
) -> None:
    broken = Recipe("shell", steps=(("sh", "-c", "echo no such crate; exit 3"),), keep=("product",))
    with pytest.raises(SenderBuildError, match=r"(?s)failed with 3:\nno such crate"):
        built(broken)

    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["shell.lock"]


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "python"])
def test_missing_toolchain_is_told_with_where_to_get_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_builds, "CACHE", tmp_path)
    monkeypatch.setitem(sender_builds.ENVIRON, "PATH", str(tmp_path))
    with pytest.raises(SenderBuildError, match=r"is not on the PATH; to build .* install .*, "):
        command_of(name)


def test_recipes_name_no_registry_and_no_machine() -> None:
    """A lock file written on somebody's machine may hold the address of their mirror."""
    allowed = {
        "http://maven.apache.org/POM/4.0.0",  # a name of XML, not an address
    }
    for recipe in {WEB, *(program.recipe for program in PROGRAMS.values())}:
        for path in recipe.files():
            text = path.read_text()
            assert set(re.findall(r"https?://[\w./-]+", text)) <= allowed, path
            assert not re.findall(r"/(?:home|root|Users|work|tmp)/", text), path
            assert '"resolved"' not in text, path
