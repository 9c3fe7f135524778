"""The changes of `make mutants`: what is changed, what is left alone, and that tests are found."""

from pathlib import Path

import pytest

from tests.mutants.change import Change, changes
from tests.mutants.rooms import CORE, FLEET, ROOMS, files_for, modules

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("return a < b", {"return None", "return (a <= b)"}),
        ("x = a and b", {"x = (a or b)"}),
        ("x = not a", {"x = bool(a)"}),
        ("x = a + 1", {"x = (a - 1)", "x = a + 2"}),
        ("x += 1", {"x -= 1", "x += 2"}),
        ("call(True)", {"pass", "call(False)"}),
        ("raise ValueError(x)", {"pass"}),
        ("raise TypeError(x)", set()),
        ("log.info('x', n=1)", set()),
        ("return None", set()),
        ("return False", {"return True"}),
        ("x: int = 'é' + y", set()),
        ("x = f'{a + 1}'", set()),
        ("zip(a, strict=True)", {"pass"}),
    ],
)
def test_one_thing_is_changed_at_a_time(line: str, changed: set[str]) -> None:
    source = f'"""Ä."""\nLIMIT = 5\ndef f(a=b, *, c: 1 = d):\n    {line}\n'.encode()
    found = {change.apply(source).decode().splitlines()[3].strip() for change in changes(source)}
    assert found == changed


@pytest.mark.parametrize("body", ['"""What it is for."""', "..."])
def test_a_method_that_only_says_what_there_is_is_left_alone(body: str) -> None:
    assert changes(f"class A(Protocol):\n def f(self, x=False):\n  {body}\n".encode()) == []


def test_every_module_of_the_core_has_tests_that_name_it_first() -> None:
    assert len(modules(ROOT, CORE)) > 80
    assert all((ROOT / name).exists() for names in ROOMS.values() for name in names)
    first = files_for(Path("relay/buffer/sqlite/space/reserve.py"), ROOT)[0]
    assert first == "tests/unit/buffer/test_reserve.py"


def test_what_needs_brokers_is_a_room_of_its_own() -> None:
    fleet, core = modules(ROOT, FLEET), modules(ROOT, CORE)
    assert fleet
    assert not {path for path in core if "kafka" in path.parts}
    tests = files_for(Path("relay/buffer/kafka/owed_text.py"), ROOT)
    assert tests[0] == "tests/unit/buffer/kafka/test_owed_text.py"
    assert any(name.startswith("tests/fleet/") for name in tests)
    of_the_core = {name for module in core for name in files_for(module, ROOT)}
    assert not of_the_core & set(tests)


def test_tests_in_the_folders_below_speak_for_a_module_too() -> None:
    assert "tests/unit/process/steps/test_sampling.py" in files_for(
        Path("relay/otlp/opened.py"), ROOT
    )


def test_every_change_leaves_a_module_that_compiles() -> None:
    """Those that do not overlap are made at once: thousands would take minutes one by one."""
    for module in modules(ROOT, ROOMS):
        source = (ROOT / module).read_bytes()
        layers: list[list[Change]] = []
        for change in sorted(changes(source)):
            for layer in layers:
                if layer[-1].end <= change.start:
                    layer.append(change)
                    break
            else:
                layers.append([change])
        for layer in layers:
            made = source
            for change in reversed(layer):
                made = change.apply(made)
            compile(made, str(module), "exec")
