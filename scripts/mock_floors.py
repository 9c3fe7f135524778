"""The mock collector's own tests beside the oldest packages that it takes, and beside the newest.

usage: scripts/mock_floors.py [oldest] [newest] [-- PYTEST ARGUMENTS]

For each end it makes an environment in `~/.cache/otlp-relay/mock/` with the wheel built from
`mockcollector/`, without the relay, and runs `tests/unit/mockcollector` from a copy, so that
nothing is imported from this checkout. The tests of `check` stay out: they stand on what tests the
relay. Exits with the first failure.
"""

import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = Path.home() / ".cache" / "otlp-relay" / "mock"
TOOLS = ["pytest>=8.4", "pytest-timeout", "hypothesis", "cryptography", "googleapis-common-protos"]
# The exporter of the documents' examples pins the classes that it was built with.
EXPORTER = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")
# These are about what the classes and the exporter of 1.20 do not have: flags of spans and links,
# event names, the exporter's logs in their later form.
NEWER_THAN_OLDEST = (
    "test_cli_run.py::test_stock_exporters_send_all_three_signals_by_their_environment",
    "test_cli_run.py::test_what_did_not_come_is_said_and_is_exit_1",
    "test_journal.py::test_span_is_flattened_with_all_its_parts",
    "test_logs_and_metrics.py::test_protobuf_twin_of_a_fixture_is_answered_alike",
    "test_logs_and_metrics.py::test_log_records_are_asked_for_in_the_order_they_came",
    "test_otlp_json.py::test_every_field_reads_as_the_official_classes_write_it",
    "test_otlp_json.py::test_number_and_null_forms_of_protojson_are_read[fields6-flags-257]",
    "test_otlp_json.py::test_value_that_its_field_cannot_hold_is_refused[{'flags': 4294967296}]",
    "test_otlp_json.py::test_value_that_its_field_cannot_hold_is_refused[{'flags': -1}]",
    "test_otlp_json.py::test_refusal_never_quotes_the_body",
    "test_replay.py::test_what_came_is_written_as_otlp_json_and_read_back_the_same",
)
COPIED = (
    "tests/unit/mockcollector",
    "tests/support",
    "tests/fixtures",
    "docs",
    "mockcollector/README.md",
    "tests/conftest.py",
)


def main() -> None:
    """Both ends, or the ones named."""
    ends, _, given = " ".join(sys.argv[1:]).partition("--")
    for end in ends.split() or ["oldest", "newest"]:
        options = [*given.split(), "--ignore=tests/unit/mockcollector/check"]
        print(f"== the mock collector beside its {end} packages", flush=True)
        folder = HOME / end
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        wheel = build(folder)
        python = install(folder, wheel, is_oldest=end == "oldest")
        if end == "oldest":
            options += [f"--deselect=tests/unit/mockcollector/{n}" for n in NEWER_THAN_OLDEST]
        test(folder, python, options)


def build(folder: Path) -> Path:
    """The wheel of this checkout."""
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")],
        folder=ROOT / "mockcollector")  # fmt: skip
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def install(folder: Path, wheel: Path, *, is_oldest: bool) -> Path:
    """The Python of an environment with the wheel at the floors of its pyproject, or above."""
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    pins: list[str] = []
    if is_oldest:
        declared = tomllib.loads((ROOT / "mockcollector" / "pyproject.toml").read_text())
        for line in declared["project"]["dependencies"]:
            name, _, rest = line.partition(";")[0].partition(">=")
            floor = rest.partition(",")[0].strip()
            pins.append(
                f"{name.strip()}=={floor}{'.*' if name.strip() != 'backports.zstd' else '.0'}"
            )
        pins += [f"{name}==1.20.*" for name in EXPORTER]
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(pins))
    run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--constraint", str(constraints), str(wheel), *TOOLS, *EXPORTER])  # fmt: skip
    return python


def test(folder: Path, python: Path, options: list[str]) -> None:
    """The tests from a copy, in which there is no `mockcollector` but the installed one."""
    here = folder / "checkout"
    for name in COPIED:
        source, target = ROOT / name, here / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    (here / "pytest.ini").write_text(
        "[pytest]\npythonpath = .\naddopts = --import-mode=importlib -ra\ntimeout = 180\n"
    )
    run([str(python), "-m", "pytest", "tests/unit/mockcollector", "-q", *options], folder=here)


def run(command: list[str], *, folder: Path | None = None) -> None:
    """Run it; a failure ends this, too."""
    done = subprocess.run(command, cwd=folder, check=False)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
