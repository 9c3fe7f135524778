"""The choice between an image that is pulled and one that is built."""

from pathlib import Path

import pytest

from tests.e2e.images import PUBLISHED, RECIPES, Source, choose, recipe_hash


def choice(forced: str = "", *, pulled: bool, built: bool, registry: bool) -> tuple[Source, int]:
    """What is chosen, and how often the registry was asked for that."""
    asked: list[bool] = []

    def can_pull() -> bool:
        asked.append(registry)
        return registry

    chosen = choose(forced, has_pulled=lambda: pulled, has_built=lambda: built, can_pull=can_pull)
    return chosen, len(asked)


def test_choice_is_the_published_image_when_a_registry_has_it() -> None:
    assert choice(pulled=False, built=False, registry=True) == (Source.PULL, 1)


def test_choice_is_to_build_when_no_registry_answers() -> None:
    assert choice(pulled=False, built=False, registry=False) == (Source.BUILD, 1)


@pytest.mark.parametrize("registry", [True, False])
def test_choice_asks_no_registry_when_the_daemon_has_an_image(registry: bool) -> None:
    assert choice(pulled=True, built=False, registry=registry) == (Source.PULL, 0)
    assert choice(pulled=False, built=True, registry=registry) == (Source.BUILD, 0)
    assert choice(pulled=True, built=True, registry=registry) == (Source.PULL, 0)


@pytest.mark.parametrize("forced", ["pull", "build"])
@pytest.mark.parametrize("there", [True, False])
def test_choice_is_what_was_forced_whatever_there_is(forced: str, there: bool) -> None:
    assert choice(forced, pulled=there, built=there, registry=there) == (Source(forced), 0)


def test_choice_refuses_a_word_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="bulid"):
        choice("bulid", pulled=True, built=True, registry=True)


def test_recipe_hash_changes_with_every_file_and_its_name(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module a")
    first = recipe_hash(tmp_path)
    (tmp_path / "go.mod").write_text("module b")
    second = recipe_hash(tmp_path)
    (tmp_path / "go.mod").rename(tmp_path / "go.sum")

    assert len({first, second, recipe_hash(tmp_path)}) == 3


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_image_has_a_recipe(name: str) -> None:
    assert {"build", "Dockerfile"} <= {file.name for file in (RECIPES / name).iterdir()}
