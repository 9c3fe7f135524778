"""The import rule, the size limits, and that documents name only what exists."""

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Imports go to a lower level only; modules of one level do not import each other, except inside
# one room. A module stands under the longest name that fits.
LEVELS = {
    "relay.cli": 10,
    "relay.daemon": 9,
    "relay.admin": 8,
    "relay.reload": 7,
    "relay.view": 7,
    "relay.page": 7,
    "relay.dead_letters": 6,
    "relay.traces": 6,
    "relay.offline": 5,
    "relay.engine": 5,
    "relay.salvage": 4,
    "relay.doctor": 4,
    "relay.deliver": 4,
    "relay.ingest": 4,
    "relay.telemetry": 4,
    "relay.buffer.kafka": 4,
    "relay.buffer.sqlite": 3,
    "relay.genai": 3,
    "relay.upstream": 3,
    "relay.process": 3,
    "relay.buffer": 2,
    "relay.otlp": 2,
    "relay.server": 2,
    "relay.logs": 2,
    "relay.systemd": 1,
    "relay.config": 1,
    "relay.model": 0,
    "relay.version": 0,
}
FENCES = {
    "uvicorn": {"relay.server", "mockcollector"},
    "httpx2": {"relay.upstream"},
    "httpcore2": {"relay.upstream"},
    "apsw": {"relay.buffer.sqlite", "relay.buffer.kafka", "relay.salvage", "relay.offline"},
    "confluent_kafka": {"relay.buffer.kafka"},
    "starlette": {"relay.admin", "relay.page", "mockcollector"},
    "jinja2": {"relay.page"},
    "click": {"relay.cli", "mockcollector"},
    "rich": {"relay.cli"},
    "prometheus_client": {"relay.admin"},
    "cel": {"relay.config"},
    "re2": {"relay.config"},
}
HARD_FILE_LINES = 500
HARD_FUNCTION_LINES = 60


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    module_name(path): path
    for top in ("relay", "mockcollector")
    for path in sorted((ROOT / top).rglob("*.py"))
}


@functools.cache
def imports_of(path: Path) -> frozenset[str]:
    """Every module that the file imports, at any depth of its code."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            # `from relay.otlp import json` imports the module relay.otlp.json
            modules = {f"{node.module}.{alias.name}" for alias in node.names} & SOURCES.keys()
            found |= modules
            if len(modules) < len(node.names):
                found.add(node.module)
    return frozenset(found)


def room_of(module: str) -> str:
    """The longest name of LEVELS that holds the module."""
    fitting = [s for s in LEVELS if module == s or module.startswith(s + ".")]
    assert fitting, f"{module} has no level: add it to LEVELS"
    return max(fitting, key=len)


def test_imports_go_down_only() -> None:
    breaches = []
    for module, path in SOURCES.items():
        if not module.startswith("relay."):
            continue
        room = room_of(module)
        for imported in imports_of(path):
            if imported == "relay" or not imported.startswith("relay."):
                continue
            other = room_of(imported)
            if other == room:
                continue
            if LEVELS[other] >= LEVELS[room]:
                breaches.append(f"{module} imports {imported}")
    assert not breaches


def test_nothing_of_the_domain_imports_admin() -> None:
    importers = {
        module
        for module, path in SOURCES.items()
        if any(room_of(i) == "relay.admin" for i in imports_of(path) if i.startswith("relay."))
    }
    above = ("relay.admin", "relay.daemon", "relay.cli")
    assert {module for module in importers if not module.startswith(above)} == set()


def unit_of(module: str, folder: str) -> str:
    """The file or folder directly inside `folder` that holds the module."""
    rest = module.removeprefix(folder).lstrip(".")
    return rest.split(".")[0] or "__init__"


def circles_in(folder: str) -> set[tuple[str, str]]:
    """Imports between what lies directly in a folder that lead back to where they start."""
    arrows: dict[tuple[str, str], tuple[str, str]] = {}
    for module, path in SOURCES.items():
        if module == folder or module.startswith(folder + "."):
            for imported in imports_of(path) & SOURCES.keys():
                if imported == folder or imported.startswith(folder + "."):
                    ends = unit_of(module, folder), unit_of(imported, folder)
                    if ends[0] != ends[1]:
                        arrows[ends] = (module, imported)
    while True:
        starts, ends_ = {start for start, _ in arrows}, {end for _, end in arrows}
        dead = [ends for ends in arrows if ends[1] not in starts or ends[0] not in ends_]
        if not dead:
            return set(arrows.values())
        for ends in dead:
            del arrows[ends]


def test_no_circle_of_imports_between_modules_or_between_folders() -> None:
    folders = [module for module, path in SOURCES.items() if path.name == "__init__.py"]
    circles = {folder: circles_in(folder) for folder in folders}
    assert {folder: found for folder, found in circles.items() if found} == {}


def test_nobody_imports_names_from_the_package_root() -> None:
    breaches = [m for m, path in SOURCES.items() if "relay" in imports_of(path)]
    assert breaches == []


def test_relay_and_mockcollector_do_not_know_each_other() -> None:
    breaches = [
        f"{module} imports {imported}"
        for module, path in SOURCES.items()
        for imported in imports_of(path)
        if {module.split(".")[0], imported.split(".")[0]} == {"relay", "mockcollector"}
    ]
    assert breaches == []


def test_libraries_are_imported_only_where_their_fence_stands() -> None:
    breaches = [
        f"{module} imports {imported}"
        for module, path in SOURCES.items()
        for imported in imports_of(path)
        for library, homes in FENCES.items()
        if imported.split(".")[0] == library
        and not any(module == home or module.startswith(home + ".") for home in homes)
    ]
    assert breaches == []


def test_only_the_engine_and_who_chooses_it_know_kafka() -> None:
    homes = ("relay.buffer.kafka", "relay.config", "relay.engine", "relay.cli", "mockcollector")
    word = re.compile("kafka", re.IGNORECASE)
    knowing = {
        module
        for module, path in SOURCES.items()
        if not module.startswith(homes) and word.search(path.read_text())
    }
    assert knowing == set()


def test_files_and_functions_stay_small_enough_to_read() -> None:
    too_long = []
    for module, path in SOURCES.items():
        text = path.read_text()
        if len(text.splitlines()) > HARD_FILE_LINES:
            too_long.append(f"{module}: {len(text.splitlines())} lines")
        too_long += [
            f"{module}.{node.name}: {node.end_lineno - node.lineno + 1} lines"
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.end_lineno is not None
            and node.end_lineno - node.lineno + 1 > HARD_FUNCTION_LINES
        ]
    assert too_long == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        m for m, path in SOURCES.items() if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_documents_name_only_files_that_exist() -> None:
    named = re.compile(
        r"`((?:relay|mockcollector|tests|scripts|systemd|docs)/[\w./-]+|[\w-]+\.md)`"
    )
    missing = [
        f"{document.relative_to(ROOT)}: {name}"
        for document in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
        for name in named.findall(document.read_text())
        if not any((base / name).exists() for base in (ROOT, document.parent))
    ]
    assert missing == []
