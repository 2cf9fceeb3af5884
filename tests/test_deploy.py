"""What is made for Docker and Kubernetes, as far as it can be looked at where neither runs: docs/backends.md."""

from __future__ import annotations

import copy
import fnmatch
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from tests.imports import ROOT

DOCKERFILE = ROOT / "Dockerfile"
COMPOSE = ROOT / "compose.yaml"
TEMPLATE = ROOT / "deploy/kubernetes/job-template.json"
MANIFESTS = ROOT / "deploy/kubernetes/workspace.yaml"
KUBERNETES = ("1.31", "1.37")
"""Versions whose schemas the manifests are held to."""
MISPLACED = ("completions", "parallelism")
"""Fields of a job that Prefect's worker wants among those of the pod, where Kubernetes ignores them."""


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment."""
    found = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)
    if found is None:
        pytest.skip(f"needs {program}: make install")
    return subprocess.run([found, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_the_linter_has_nothing_to_say_about_the_dockerfile(tmp_path: Path) -> None:
    done = run("hadolint", DOCKERFILE)
    assert (done.returncode, done.stdout) == (0, "")
    worse = tmp_path / "Dockerfile"
    worse.write_text(DOCKERFILE.read_text().replace("# hadolint ignore=DL3008\n", ""))
    assert "DL3008" in run("hadolint", worse).stdout


def test_the_dockerfile_copies_what_is_there_and_let_in() -> None:
    text = DOCKERFILE.read_text()
    copied = [name for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for name in line.split()]
    assert {"requirements.lock", "tools/install.py", "pyproject.toml", "keypipe"} <= {*copied}
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"  # nothing else gets in, no data and no secrets
    let_in = [line[1:] for line in lines if line.startswith("!")]
    for name in copied:
        assert (ROOT / name).exists(), name
        assert any(fnmatch.fnmatch(name, one) for one in let_in), name
    assert {*let_in} == {*copied}
    (python,) = re.findall(r"^ARG PYTHON=(\S+)$", text, re.MULTILINE)
    (admitted,) = re.findall(r'^requires-python = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert f"{python}.0" in SpecifierSet(admitted)


def test_compose_files_keep_the_schema(tmp_path: Path) -> None:
    def check(*paths: Path) -> int:
        return run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", *paths).returncode

    assert check(COMPOSE, ROOT / "compose.gpu.yaml") == 0
    (tmp_path / "worse.yaml").write_text(COMPOSE.read_text().replace("    healthcheck:", "    healthchek:"))
    assert check(tmp_path / "worse.yaml") == 1


def test_compose_services_hang_together() -> None:
    compose = yaml.safe_load(COMPOSE.read_text())
    services: dict[str, Any] = compose["services"]
    assert {"postgres", "s3", "mlflow", "prefect", "worker-1", "worker-2"} <= services.keys()
    assert services["worker-1"]["volumes"] != services["worker-2"]["volumes"]
    for name, service in services.items():
        for other, wanted in service.get("depends_on", {}).items():
            if wanted["condition"] == "service_healthy":
                assert "healthcheck" in services[other], f"{name} waits for {other}"
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name}: {port} is open to other machines"
        assert "${POSTGRES_PASSWORD" not in str(service.get("command", "")), name
    named = {part["source"] for part in services["postgres"]["configs"]}
    assert named <= compose["configs"].keys()
    assert services.keys() >= yaml.safe_load((ROOT / "compose.gpu.yaml").read_text())["services"].keys()


@pytest.mark.parametrize("service", ["s3", "mlflow", "prefect", "worker-1"])
def test_commands_of_compose_are_understood(service: str) -> None:
    """Each option is one that the program's help names."""
    command = shlex.split(yaml.safe_load(COMPOSE.read_text())["services"][service]["command"])
    module, *arguments = command[2:] if command[:2] == ["python", "-m"] else command
    words = [word for word in arguments if re.fullmatch(r"server|start|worker", word)]
    command = [sys.executable, "-P", "-m", module, *words, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_wide())
    assert done.returncode == 0, done.stderr
    for option in [word for word in arguments if word.startswith("--")]:
        assert option in done.stdout, option


def _wide() -> dict[str, str]:
    import os

    return os.environ | {"COLUMNS": "200", "DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}


def fill(**given: Any) -> dict[str, Any]:
    """Return the job that Prefect makes of the template, but for what its worker adds of the run."""
    from prefect.utilities.templating import apply_values

    template = json.loads(TEMPLATE.read_text())
    variables = template["variables"]["properties"]
    values = {name: one["default"] for name, one in variables.items() if one.get("default") is not None}
    values |= {"name": "brisk-owl", "labels": {"prefect.io/flow-run-name": "brisk-owl"}} | given
    filled = apply_values(template["job_configuration"], values)["job_manifest"]
    container = filled["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": name, "value": value} for name, value in container["env"].items()]
    container["args"] = ["prefect", "flow-run", "execute"]
    return dict(filled)


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("given", [{}, {"gpus": 1, "node_selector": {"gpu": "yes"}, "service_account_name": "trainer"}])
def test_jobs_of_the_template_are_valid(version: str, given: dict[str, Any]) -> None:
    validate = pytest.importorskip("kubernetes_validate").validate
    job = fill(**given)
    pod = job["spec"]["template"]["spec"]
    for name in MISPLACED:
        assert pod.pop(name) == 1
    validate(job, version, strict=True)
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == given.get("gpus", 0)
    assert {"name": "KEYPIPE_WORKSPACE", "value": "/workspace"} in pod["containers"][0]["env"]
    worse = copy.deepcopy(job)
    worse["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] = "much"
    with pytest.raises(Exception, match="much"):
        validate(worse, version, strict=True)


def test_every_variable_of_the_template_is_used_and_described() -> None:
    template = json.loads(TEMPLATE.read_text())
    used = {*re.findall(r"\{\{ (\w+) \}\}", json.dumps(template["job_configuration"]))}
    variables = template["variables"]["properties"]
    assert used == variables.keys()
    assert all(one["description"] and one["title"] for one in variables.values())


@pytest.mark.parametrize("version", KUBERNETES)
def test_what_jobs_need_beside_is_valid(version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate").validate
    documents = list(yaml.safe_load_all(MANIFESTS.read_text()))
    assert [one["kind"] for one in documents] == ["Namespace", "PersistentVolumeClaim", "Pod"]
    for one in documents:
        validate(one, version, strict=True)
    job = fill()
    assert job["metadata"]["namespace"] == documents[0]["metadata"]["name"]
    (volume, _) = job["spec"]["template"]["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == documents[1]["metadata"]["name"]
