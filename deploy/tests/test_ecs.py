"""The ECS task definitions against AWS's own service model, the policies, and that the DAGs fit them."""

from __future__ import annotations

import re
import sys

import botocore.session
import pytest
from botocore.validate import ParamValidator
from conftest import BINARY, DEPLOY, load_json, load_yaml

DEFINITIONS = ["ecs/task-definition.json", "ecs/service-task-definition.json"]
POLICIES = ["ecs/task-role-policy.json", "ecs/execution-role-policy.json", "ecs/airflow-role-policy.json"]
PLACEHOLDERS = {"<ACCOUNT_ID>", "<REGION>", "<TAG>", "<BUCKET>", "<API_HOST>"}


def errors(definition: dict) -> str:
    model = botocore.session.get_session().get_service_model("ecs")
    shape = model.operation_model("RegisterTaskDefinition").input_shape
    return ParamValidator().validate(definition, shape).generate_report()


def container(name: str) -> dict:
    (found,) = load_json(name)["containerDefinitions"]
    return found


@pytest.mark.parametrize("name", DEFINITIONS)
def test_aws_accepts_the_definition(name):
    assert errors(load_json(name)) == ""


def test_the_validator_does_refuse():
    broken = load_json(DEFINITIONS[0])
    broken["containerDefinitions"][0]["stopTimeout"] = "60"
    broken["containerDefinitions"][0]["enviroment"] = []
    assert "stopTimeout" in errors(broken) and "enviroment" in errors(broken)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_fargate_takes_it(name):
    definition = load_json(name)
    assert definition["requiresCompatibilities"] == ["FARGATE"] and definition["networkMode"] == "awsvpc"
    memory = {256: (512, 2048), 512: (1024, 4096), 1024: (2048, 8192), 2048: (4096, 16384)}
    least, most = memory[int(definition["cpu"])]
    assert least <= int(definition["memory"]) <= most
    # 30 s for the checkpoint, and Fargate's limit of two minutes.
    assert 30 < container(name)["stopTimeout"] <= 120


@pytest.mark.parametrize("name", DEFINITIONS)
def test_the_container_is_locked_down_and_can_write_where_it_must(name):
    c = container(name)
    assert c["user"] == "65532:65532" and c["readonlyRootFilesystem"] and c["essential"]
    assert c["linuxParameters"]["capabilities"]["drop"] == ["ALL"]
    writable = [m["containerPath"] for m in c["mountPoints"] if not m["readOnly"]]
    assert {"name": "TMPDIR", "value": writable[0]} in c["environment"]
    assert {m["sourceVolume"] for m in c["mountPoints"]} == {v["name"] for v in load_json(name)["volumes"]}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_secrets_come_from_a_store_and_only_from_there(name):
    c = container(name)
    secret = {s["name"] for s in c["secrets"]}
    assert {"SHOP_TOKEN", "WAREHOUSE_URL"} <= secret
    assert all(re.match(r"arn:aws:(secretsmanager|ssm):", s["valueFrom"]) for s in c["secrets"])
    plain = {e["name"] for e in c["environment"]}
    assert not secret & plain
    assert not [n for n in plain if re.search("TOKEN|SECRET|PASSWORD|KEY|WEBHOOK", n)]


def test_only_the_service_has_a_health_check():
    assert "healthCheck" not in container(DEFINITIONS[0])
    check = container(DEFINITIONS[1])["healthCheck"]["command"]
    assert check[:4] == ["CMD", BINARY, "health", "--url"]


@pytest.mark.parametrize("name", DEFINITIONS)
def test_logs_go_to_cloudwatch_without_blocking(name):
    logs = container(name)["logConfiguration"]
    assert logs["logDriver"] == "awslogs" and logs["options"]["mode"] == "non-blocking"
    assert {"awslogs-group", "awslogs-region", "awslogs-stream-prefix"} <= set(logs["options"])


@pytest.mark.parametrize("name", DEFINITIONS + POLICIES)
def test_what_must_be_filled_in_is_marked(name):
    text = (DEPLOY / name).read_text()
    assert set(re.findall(r"<[^<>]+>", text)) <= PLACEHOLDERS
    assert not re.search(r"\b\d{12}\b", text), "an account number"


def test_the_task_may_do_to_the_bucket_what_the_lake_needs_and_no_more():
    statements = load_json(POLICIES[0])["Statement"]
    assert {action for s in statements for action in s["Action"]} == {
        "s3:ListBucket",
        "s3:ListBucketMultipartUploads",
        "s3:GetObject",
        "s3:PutObject",
        "s3:DeleteObject",
        "s3:AbortMultipartUpload",
        "s3:ListMultipartUploadParts",
    }


@pytest.mark.parametrize("name", POLICIES)
def test_policies_are_well_formed(name):
    policy = load_json(name)
    assert policy["Version"] == "2012-10-17"
    sids = [s["Sid"] for s in policy["Statement"]]
    assert len(sids) == len(set(sids)) and all(re.fullmatch("[A-Za-z0-9]+", sid) for sid in sids)
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow" and set(statement) <= {"Sid", "Effect", "Action", "Resource", "Condition"}
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert all(re.fullmatch(r"[a-z0-9]+:[A-Za-z]+", action) for action in actions), "no wildcards"


@pytest.mark.parametrize("name", POLICIES)
def test_every_action_is_an_operation_of_the_service(name):
    """IAM's actions are named after API operations, but for a few of S3 and IAM."""
    own = {"s3:ListBucket": "ListObjectsV2", "s3:ListBucketMultipartUploads": "ListMultipartUploads"}
    own |= {"s3:ListMultipartUploadParts": "ListParts", "s3:AbortMultipartUpload": "AbortMultipartUpload"}
    session = botocore.session.get_session()
    for statement in load_json(name)["Statement"]:
        for action in statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]:
            service, operation = action.split(":")
            if action == "iam:PassRole":
                continue
            operation = own.get(action, operation)
            assert operation in session.get_service_model(service).operation_names, action


def test_the_dags_defaults_name_what_these_files_define(monkeypatch):
    sys.path.insert(0, str(DEPLOY / "airflow"))
    import tessera_ecs

    definition, c = load_json(DEFINITIONS[0]), container(DEFINITIONS[0])
    assert tessera_ecs.DEFAULTS["task_definition"] == definition["family"]
    assert tessera_ecs.DEFAULTS["container"] == c["name"]
    assert tessera_ecs.DEFAULTS["log_stream_prefix"] == c["logConfiguration"]["options"]["awslogs-stream-prefix"]
    policy = (DEPLOY / POLICIES[2]).read_text()
    assert f"task-definition/{definition['family']}:*" in policy
    assert f"cluster/{tessera_ecs.DEFAULTS['cluster']}" in policy
    for role in (definition["taskRoleArn"], definition["executionRoleArn"]):
        assert role in policy


def test_kubernetes_and_ecs_run_the_same_commands():
    args = [load_yaml("kubernetes/deployment.yaml")["spec"]["template"]["spec"]["containers"][0]["args"]]
    cron = load_yaml("kubernetes/cronjob.yaml")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    args.append(cron["containers"][0]["args"])
    assert args == [container(DEFINITIONS[1])["command"], container(DEFINITIONS[0])["command"]]
