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
    assert {"starlette", "protobuf", "h11", "apsw", "confluent-kafka"} <= versions.keys()
    assert not {"pytest", "ruff", "hypothesis"} & versions.keys()
    refs = {each["bom-ref"] for each in found["components"]}
    edges = {each["ref"]: set(each["dependsOn"]) for each in found["dependencies"]}
    ours = edges.pop("pkg:pypi/otlp-relay@1.2.3")
    assert edges.keys() == refs
    assert set().union(ours, *edges.values()) == refs
    assert len(ours) >= len(project["dependencies"]) - 1


def test_bill_of_an_image_names_the_packages_of_its_system_too() -> None:
    code = (
        "import json, sbom; made = sbom.document('1.2.3');"
        "print(json.dumps(sbom.with_system(made, 'zlib1g 1:1.2.13.dfsg-1 amd64\\n"
        "libc6 2.36-9+deb12u14 amd64\\n')))"
    )
    made = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "scripts",
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    purls = [each["purl"] for each in json.loads(made.stdout)["components"]]

    assert purls[-2:] == [
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=amd64",
        "pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1?arch=amd64",
    ]
    assert any(purl.startswith("pkg:pypi/apsw@") for purl in purls)
