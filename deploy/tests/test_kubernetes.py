"""The Kubernetes manifests against the API's own schemas, and what they promise."""

from __future__ import annotations

import kubernetes_validate
import pytest
from conftest import DEPLOY, load_yaml

FOLDER = "kubernetes"
MANIFESTS = ["service-account.yaml", "cronjob.yaml", "deployment.yaml", "service.yaml"]
# The oldest has podFailurePolicy and CronJob time zones as stable.
VERSIONS = ["1.31", "1.37"]


def pod(name: str) -> dict:
    spec = load_yaml(f"{FOLDER}/{name}")["spec"]
    return spec["jobTemplate"]["spec"]["template"]["spec"] if name == "cronjob.yaml" else spec["template"]["spec"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", MANIFESTS)
def test_the_schema_of_the_api_accepts_it(name, version):
    kubernetes_validate.validate(load_yaml(f"{FOLDER}/{name}"), version, strict=True)


def test_the_validator_does_refuse():
    broken = load_yaml(f"{FOLDER}/cronjob.yaml")
    broken["spec"]["concurencyPolicy"] = "Forbid"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[0], strict=True)


@pytest.mark.parametrize("name", ["cronjob.yaml", "deployment.yaml"])
def test_pods_meet_the_restricted_standard(name):
    spec = pod(name)
    security = spec["securityContext"]
    assert security["runAsNonRoot"] and security["runAsUser"] == 65532
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["terminationGracePeriodSeconds"] > 30
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]["requests"]) == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("name", ["cronjob.yaml", "deployment.yaml"])
def test_mounts_and_references_exist(name):
    spec = pod(name)
    (container,) = spec["containers"]
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in spec["volumes"]}
    assert {m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")} == {"/tmp", "/data"}
    kustomization = load_yaml(f"{FOLDER}/kustomization.yaml")
    generated = {g["name"] for g in kustomization["configMapGenerator"]}
    assert {v["configMap"]["name"] for v in spec["volumes"] if "configMap" in v} <= generated
    assert {e["configMapRef"]["name"] for e in container["envFrom"] if "configMapRef" in e} <= generated
    assert spec["serviceAccountName"] == load_yaml(f"{FOLDER}/service-account.yaml")["metadata"]["name"]
    assert container["image"] in {i["name"] for i in kustomization["images"]}
    assert sorted(kustomization["resources"]) == sorted(MANIFESTS)
    for generator in kustomization["configMapGenerator"]:
        assert all((DEPLOY / FOLDER / path).is_file() for path in generator.get("files", []))


def test_runs_exclude_each_other_and_a_quality_gate_is_not_retried():
    spec = load_yaml(f"{FOLDER}/cronjob.yaml")["spec"]
    job = spec["jobTemplate"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    rules = job["podFailurePolicy"]["rules"]
    assert rules[0] == {"action": "FailJob", "onExitCodes": {"containerName": "tessera", "operator": "In", "values": [2, 3]}}
    assert job["template"]["spec"]["containers"][0]["name"] == "tessera"
    assert job["backoffLimit"] > 0


def test_the_service_reaches_the_deployment_and_its_probes_the_port():
    service, deployment = load_yaml(f"{FOLDER}/service.yaml"), load_yaml(f"{FOLDER}/deployment.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == labels == deployment["spec"]["selector"]["matchLabels"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (port,) = container["ports"]
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    assert f":{port['containerPort']}" in container["args"][-1]
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert probes["readiness"]["path"] == "/readyz"
    assert probes["startup"]["path"] == probes["liveness"]["path"] == "/healthz"
    assert deployment["spec"]["replicas"] == 1 and deployment["spec"]["strategy"] == {"type": "Recreate"}
