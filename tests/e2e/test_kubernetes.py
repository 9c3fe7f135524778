"""docs/kubernetes.yaml: right by the schema of Kubernetes, and the relay runs as it says."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.e2e import images
from tests.e2e.containers import LABELS, Ground, daemon, remove
from tests.e2e.environments import environment
from tests.support.ports import free_port
from tests.support.relay_process import eventually

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "kubernetes.yaml"
VERSIONS = ("1.30", "1.37")
KINDS = ["Secret", "ConfigMap", "Service", "StatefulSet"]
READ = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))"


def validate(text: str, version: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What the validator says of these documents; unknown keys are errors."""
    file = folder / "example.yaml"
    file.write_text(text)
    program = environment("tools") / "bin" / "kubernetes-validate"
    return subprocess.run(
        [str(program), "--strict", "--kubernetes-version", version, str(file)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    """The documents by their kind."""
    python = environment("tools") / "bin" / "python"
    done = subprocess.run(
        [str(python), "-c", READ], input=EXAMPLE.read_text(), text=True, check=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    return {each["kind"]: each for each in json.loads(done.stdout)}


@pytest.mark.parametrize("version", VERSIONS)
def test_example_is_right_by_the_schema(tmp_path: Path, version: str) -> None:
    done = validate(EXAMPLE.read_text(), version, tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("passed") == len(KINDS)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("readOnlyRootFilesystem: true", "readOnlyRootFileSystem: true"),
        ("  serviceName: otlp-relay\n", "  serviceName: [otlp-relay]\n"),
        ("replicas: 1", "replicas: one"),
    ],
)
def test_schema_finds_what_is_wrong(tmp_path: Path, right: str, wrong: str) -> None:
    text = EXAMPLE.read_text()
    assert right in text

    assert validate(text.replace(right, wrong), VERSIONS[-1], tmp_path).returncode != 0


def test_parts_of_the_example_fit_each_other(example: dict[str, Any]) -> None:
    spec = example["StatefulSet"]["spec"]
    pod = spec["template"]
    (container,) = pod["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    config = example["ConfigMap"]["data"]["relay.toml"]

    assert list(example) == KINDS
    assert example["Service"]["spec"]["selector"] == pod["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == pod["metadata"]["labels"]
    assert spec["serviceName"] == example["Service"]["metadata"]["name"]
    assert {each["targetPort"] for each in example["Service"]["spec"]["ports"]} <= ports.keys()
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
    assert f'health_listen = "0.0.0.0:{ports["health"]}"' in config
    assert f'listen = "0.0.0.0:{ports["otlp-http"]}"' in config
    claimed = {claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]}
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == claimed | volumes.keys()
    for name in example["Secret"]["stringData"]:
        assert f"${{file:/run/secrets/otlp-relay/{name}}}" in config


@pytest.fixture
def pod(ground: Ground, example: dict[str, Any], tmp_path: Path) -> Iterator[Any]:
    """The container of the pod, as the kubelet would run it; its health port is on this host."""
    spec = example["StatefulSet"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    user, group = spec["securityContext"]["runAsUser"], spec["securityContext"]["fsGroup"]
    folders = {
        "config": example["ConfigMap"]["data"],
        "secrets": example["Secret"]["stringData"],
        "state": {},
    }
    mounts = {}
    for mount in container["volumeMounts"]:
        folder = tmp_path / mount["name"]
        folder.mkdir()
        for name, text in folders[mount["name"]].items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o440)
        # As fsGroup has it: root's, and the group may write.
        folder.chmod(0o2770)
        for path in (folder, *folder.iterdir()):
            os.chown(path, 0, group)
        mode = "ro" if mount.get("readOnly") else "rw"
        mounts[str(folder)] = {"bind": mount["mountPath"], "mode": mode}
    client, port = daemon(), free_port()
    made = client.containers.run(
        images.own(), detach=True, labels=LABELS, volumes=mounts,
        user=f"{user}:{spec['securityContext']['runAsGroup']}", group_add=[str(group)],
        read_only=container["securityContext"]["readOnlyRootFilesystem"],
        cap_drop=container["securityContext"]["capabilities"]["drop"],
        security_opt=["no-new-privileges:true"],
        ports={"4381/tcp": ("127.0.0.1", port)},
    )  # fmt: skip
    try:
        yield made, port
    finally:
        remove(made)
        client.close()


def test_relay_runs_in_the_pod_and_its_probes_pass(pod: tuple[Any, int]) -> None:
    container, port = pod

    def answers(path: str) -> bool:
        container.reload()
        assert container.attrs["State"]["Running"], container.logs().decode()
        try:
            with urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    eventually(lambda: answers("/healthz"), seconds=60, what="/healthz")
    eventually(lambda: answers("/readyz"), what="/readyz")
    code, said = container.exec_run(["otlp-relay", "check-config"])
    assert code == 0, said.decode()
    assert "Bearer ***" in said.decode() or "backend" in said.decode()
