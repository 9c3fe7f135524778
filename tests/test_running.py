"""How tests are run here: what measures runs alone, and what is skipped fails in CI."""

from pathlib import Path

import pytest

from tests.support.ports import free_port

pytest_plugins = ["pytester"]
OURS = """
from tests.conftest import (
    pytest_configure, pytest_make_collect_report, pytest_runtest_makereport,
    pytest_runtest_protocol,
)
"""
TAKING_TURNS = """
import time
from pathlib import Path
import pytest

from tests.support.ports import free_port

@pytest.fixture(autouse=True)
def span(request):
    began = time.monotonic()
    yield
    line = f"{request.node.name} {began} {time.monotonic()}\\n"
    with Path("spans").open("a") as spans:
        spans.write(line)

@pytest.mark.parametrize("number", range(10))
def test_beside(number):
    time.sleep(0.05)

@pytest.mark.alone
@pytest.mark.parametrize("number", range(3))
def test_alone(number):
    time.sleep(0.05)

@pytest.mark.parametrize("number", range(10))
def test_behind(number):
    time.sleep(0.05)
"""


@pytest.fixture
def ours(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project of its own with the hooks of this one."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    for name in ("TEST_TURNS", "CI"):
        monkeypatch.delenv(name, raising=False)
    pytester.makeconftest(OURS)
    return pytester


def test_what_measures_has_no_other_beside_it(ours: pytest.Pytester) -> None:
    ours.makepyfile(TAKING_TURNS)

    result = ours.runpytest_subprocess("-n", "2", "--dist", "worksteal")

    result.assert_outcomes(passed=23)
    spans = [
        (name.startswith("test_alone"), float(began), float(end))
        for name, began, end in map(str.split, (ours.path / "spans").read_text().splitlines())
    ]
    overlapping = [
        (one, other)
        for number, one in enumerate(spans)
        for other in spans[number + 1 :]
        if one[1] < other[2] and other[1] < one[2]
    ]
    assert overlapping  # the others did run in parallel
    assert not any(one[0] or other[0] for one, other in overlapping)


@pytest.mark.parametrize(("ci", "outcome"), [("", "skipped"), ("true", "failed")])
def test_what_is_skipped_fails_in_ci(
    ours: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, ci: str, outcome: str
) -> None:
    monkeypatch.setenv("CI", ci)
    ours.makepyfile("import pytest\n\ndef test_skipped():\n    pytest.skip('no disk')\n")

    result = ours.runpytest_inprocess("-ra")

    assert result.parseoutcomes() == {outcome: 1}
    result.stdout.fnmatch_lines(["*no disk*"])


def test_file_that_is_skipped_fails_in_ci(
    ours: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    ours.makepyfile("import pytest\n\npytest.skip('no disk', allow_module_level=True)\n")

    result = ours.runpytest_inprocess("-ra")

    assert result.ret != 0
    result.stdout.fnmatch_lines(["*skipped, which is a failure in CI*no disk*"])


def test_no_port_is_given_to_two_who_ask_one_after_the_other() -> None:
    asked = [free_port() for _ in range(1000)]

    assert len(set(asked)) == len(asked)
