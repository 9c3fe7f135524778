"""Writes what the package is made of, for those who watch for flaws in it: CycloneDX 1.6, JSON.

Every package that otlp-relay requires, directly or not, at the version in `requirements.lock`, the
native pass with the crates of its `Cargo.lock`, and which requires which. Made from this checkout
alone: the same commit makes the same bytes. With `--image TAG` the packages of the system in it
are there, too. Run it with the Python of `.venv`, which has what the lock names; prints the path
of what it made.
"""

import argparse
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "scripts" / "requirements.lock"
OURS = "otlp-relay"
NATIVE = "otlp-relay-native"
EXTRA = "fleet"  # package and image have it


def locked() -> dict[str, str]:
    """The version of each package in the lock."""
    found = re.findall(r"(?m)^([A-Za-z0-9._-]+)==([^\s;\\]+)", LOCK.read_text())
    return {canonicalize_name(name): version for name, version in found}


def names_of(requirements: Iterable[str]) -> list[str]:
    """The packages that these ask for on this Python, without extras."""
    parsed = map(Requirement, requirements)
    wanted = [each for each in parsed if each.marker is None or each.marker.evaluate({"extra": ""})]
    return sorted({canonicalize_name(each.name) for each in wanted})


def required() -> dict[str, list[str]]:
    """All that is required, ourselves first, and by name what each requires in turn."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"][EXTRA]
    found = {OURS: names_of([*project["dependencies"], *extra])}
    queue = list(found[OURS])
    while queue:
        name = queue.pop()
        if name not in found:
            found[name] = names_of(importlib.metadata.requires(name) or [])
            queue += found[name]
    return found


def crates() -> dict[str, tuple[str, list[str]]]:
    """The native pass and the crates in it: the purl of each, and the names that it requires."""
    packages = tomllib.loads((ROOT / "native" / "Cargo.lock").read_text())["package"]
    return {
        each["name"]: (
            f"pkg:{'cargo' if 'source' in each else 'pypi'}/{each['name']}@{each['version']}",
            each.get("dependencies", []),
        )
        for each in packages
    }


def document(version: str) -> dict[str, Any]:
    """The bill of materials of otlp-relay at that version."""
    graph, versions = required(), {**locked(), OURS: version}
    purls = {name: f"pkg:pypi/{name}@{versions[name]}" for name in graph}
    for name, (purl, needed) in crates().items():
        purls[name], graph[name] = purl, needed
        versions[name] = purl.rpartition("@")[2]
    graph[OURS].append(NATIVE)
    components = {
        name: {
            "type": "application" if name == OURS else "library",
            "bom-ref": purls[name],
            "name": name,
            "version": versions[name],
            "purl": purls[name],
        }
        for name in sorted(graph)
    }
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": components.pop(OURS)},
        "components": list(components.values()),
        "dependencies": [
            {"ref": purls[name], "dependsOn": [purls[each] for each in graph[name]]}
            for name in sorted(graph)
        ],
    }


def with_system(made: dict[str, Any], listed: str) -> dict[str, Any]:
    """The same with Debian's packages: `listed` has `NAME VERSION ARCHITECTURE` in each line."""
    packages = [line.split() for line in sorted(listed.splitlines())]
    system = [
        {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": version,
            "purl": purl,
        }
        for name, version, architecture in packages
        for purl in [f"pkg:deb/debian/{name}@{quote(version, safe='.~-_:')}?arch={architecture}"]
    ]
    return {**made, "components": made["components"] + system}


def write(folder: Path, version: str, image: str | None) -> Path:
    """`folder/otlp-relay_VERSION.cdx.json`, or `…_image.cdx.json` for an image."""
    made = document(version)
    if image:
        shown = r"--showformat=${Package} ${Version} ${Architecture}\n"
        command = ["docker", "run", "--rm", "--entrypoint", "dpkg-query", image, "--show", shown]
        listed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        made = with_system(made, listed)
    path = folder / f"{OURS}_{version}{'_image' if image else ''}.cdx.json"
    path.write_text(json.dumps(made, indent=2) + "\n")
    return path


def main() -> None:
    """Into dist/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", metavar="TAG", help="of this image, asked by docker")
    options = parser.parse_args()
    found = re.search(r'__version__ = "(.+)"', (ROOT / "relay" / "version.py").read_text())
    if found is None:
        sys.exit("relay/version.py has no __version__")
    (ROOT / "dist").mkdir(exist_ok=True)
    print(write(ROOT / "dist", found[1], options.image))


if __name__ == "__main__":
    main()
