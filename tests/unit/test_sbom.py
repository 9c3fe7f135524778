"""The bill of materials beside the package: every package of the lock that ours requires."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_bill_of_materials_names_what_the_package_requires_at_the_versions_of_the_lock() -> None:
    made = subprocess.run(
        [sys.executable, "-c", "import json, sbom; print(json.dumps(sbom.document('1.2.3')))"],
        cwd=ROOT / "scripts",
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    found = json.loads(made.stdout)
    versions = {each["name"]: each["version"] for each in found["components"]}
    lock = (ROOT / "scripts" / "requirements.lock").read_text().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    assert found["metadata"]["component"]["purl"] == "pkg:pypi/otlp-relay@1.2.3"
    crates = tomllib.loads((ROOT / "native" / "Cargo.lock").read_text())["package"]
    of_crates = {each["name"]: each["version"] for each in crates}
    assert of_crates.keys() <= versions.keys()
    for name, version in versions.items():
        if name in of_crates:
            assert version == of_crates[name]
            continue
        assert any(line.lower().startswith(f"{name}=={version} ") for line in lock), name
    assert {"starlette", "protobuf", "h11", "apsw"} <= versions.keys()
    assert not {"pytest", "ruff", "hypothesis"} & versions.keys()
    refs = {each["bom-ref"] for each in found["components"]}
    edges = {each["ref"]: set(each["dependsOn"]) for each in found["dependencies"]}
    ours = edges.pop("pkg:pypi/otlp-relay@1.2.3")
    assert edges.keys() == refs
    assert set().union(ours, *edges.values()) == refs
    assert len(ours) >= len(project["dependencies"]) - 1
