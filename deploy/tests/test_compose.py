"""compose.yaml: valid against the Compose specification, and as locked down as the image allows."""

from __future__ import annotations

import re

import pytest
import yaml
from compose_spec import PyCompose
from conftest import BINARY, DEPLOY, load_yaml

OURS = ("tessera", "api", "ingest")


def interpolated() -> str:
    """The file as Compose reads it where no variable is set: defaults filled in, anchors merged."""
    text = re.sub(r"\$\{\w+(?::-([^}]*))?\}", lambda found: found[1] or "", (DEPLOY / "compose.yaml").read_text())
    return yaml.safe_dump(yaml.safe_load(text))


def test_it_is_valid_compose():
    spec = PyCompose.from_yaml(interpolated()).to_spec()
    assert set(spec.services) == {*OURS, "s3", "postgres"}


def test_the_validator_does_refuse():
    with pytest.raises(ValueError, match="stop_grace_period"):
        PyCompose.from_yaml(interpolated().replace("45s", "soon"))


def test_plain_up_starts_tessera_alone(compose):
    assert [name for name, service in compose["services"].items() if "profiles" not in service] == ["tessera"]


@pytest.mark.parametrize("name", OURS)
def test_our_containers_are_locked_down(compose, name):
    service = compose["services"][name]
    assert service["user"] == "65532:65532"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert any(mount.startswith("/tmp:") for mount in service["tmpfs"])
    assert service["stop_grace_period"] == "45s"


def test_every_long_running_service_has_a_health_check_and_only_the_console_is_published(compose):
    for name, service in compose["services"].items():
        if name == "ingest":
            assert service["healthcheck"] == {"disable": True}
            continue
        kind, *command = service["healthcheck"]["test"]
        assert kind == ("CMD" if name in OURS else "CMD-SHELL")
        if name in OURS:
            assert command[:3] == [BINARY, "health", "--url"]
        assert ("ports" in service) == (name == "tessera")
    assert compose["services"]["tessera"]["ports"] == [
        "127.0.0.1:${TESSERA_PORT:-8080}:8080",
        "127.0.0.1:${TESSERA_TLS_PORT:-8443}:8443",
    ]


def test_what_is_named_exists(compose):
    services, volumes = compose["services"], compose["volumes"]
    for service in services.values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in volumes
        for needed, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"} and "healthcheck" in services[needed]
        if "build" in service:
            assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("path", ["pipelines/shop.yaml", "kubernetes/pipelines/shop.yaml"])
def test_the_pipeline_reads_only_variables_that_its_container_has(compose, path):
    text = (DEPLOY / path).read_text()
    wanted = set(re.findall(r"\$\{([A-Z_]+)", text))
    if path.startswith("pipelines"):
        given = set(compose["services"]["ingest"]["environment"])
    else:
        settings = load_yaml("kubernetes/kustomization.yaml")["configMapGenerator"][1]["literals"]
        given = {line.split("=")[0] for line in settings} | {"SHOP_TOKEN", "WAREHOUSE_URL"}
    assert wanted <= given
    assert load_yaml(path)["name"] == "shop"
