"""DAG runs executed by Airflow itself, down to the requests that reach ECS."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from conftest import NETWORK, QUICK, sync

HOURS = iter(range(10_000))


def run(dag, **conf):
    """One run of the DAG, in an interval that no other test has used."""
    hour = next(HOURS)
    date = datetime.fromtimestamp(1_767_225_600 + hour * 3600, tz=timezone.utc)
    return date, dag.test(logical_date=date, run_conf=conf)


def states(dag_run, task_id):
    instances = [ti for ti in dag_run.get_task_instances() if ti.task_id == task_id]
    return [str(ti.state) for ti in sorted(instances, key=lambda ti: ti.map_index)]


def test_the_ecs_task_carries_the_run_as_environment(dags, aws):
    dag = dags(
        **QUICK,
        **NETWORK,
        cluster="data",
        task_definition="tessera-ingest:7",
        pipeline="/pipelines/shop.yaml",
        resources=["orders", "items"],
        environment={"TESSERA_LOG": "debug"},
    )["tessera_ingest"]
    date, dag_run = run(dag)
    assert str(dag_run.state) == "success"
    (request,) = aws.asked("RunTask")
    started_by = request.pop("startedBy")
    assert len(started_by) == 36
    assert request.pop("clientToken")
    end = dag_run.data_interval_end
    pairs = {
        "TESSERA_LOG": "debug",
        "RUN_TYPE": "incremental",
        "RUN_FROM": f"{dag_run.data_interval_start:%Y-%m-%dT%H:%M:%SZ}",
        "RUN_TO": f"{end:%Y-%m-%dT%H:%M:%SZ}",
        "RUN_RESOURCES": "orders,items",
        "TESSERA_PIPELINE": "/pipelines/shop.yaml",
    }
    environment = [{"name": name, "value": value} for name, value in pairs.items()]
    assert request == {
        "cluster": "data",
        "taskDefinition": "tessera-ingest:7",
        "launchType": "FARGATE",
        "propagateTags": "TASK_DEFINITION",
        "networkConfiguration": {
            "awsvpcConfiguration": {
                "subnets": ["subnet-1", "subnet-2"],
                "securityGroups": ["sg-1"],
                "assignPublicIp": "DISABLED",
            }
        },
        "overrides": {"containerOverrides": [{"name": "tessera", "environment": environment}]},
    }
    assert (end - dag_run.data_interval_start).total_seconds() == 3600
    assert dag_run.data_interval_end <= date


def test_parameters_replace_the_interval(dags, aws):
    dag = dags(**QUICK, resources=["orders"])["tessera_ingest"]
    run(dag, run_from="2026-02-01T00:00:00Z", run_to="2026-02-02T00:00:00+01:00", resources="items", limit=10)
    (environment,) = aws.environments()
    assert environment == {
        "RUN_TYPE": "incremental",
        "RUN_FROM": "2026-02-01T00:00:00Z",
        "RUN_TO": "2026-02-01T23:00:00Z",
        "RUN_RESOURCES": "items",
        "RUN_LIMIT": "10",
    }


def test_a_manual_run_without_a_date_leaves_the_window_to_the_saved_cursor(dags, aws):
    dag_run = dags(**QUICK)["tessera_ingest"].test(logical_date=None)
    assert str(dag_run.state) == "success"
    assert aws.environments() == [{"RUN_TYPE": "incremental"}]


def test_the_cursor_alone_can_decide(dags, aws):
    run(dags(**QUICK, window="cursor")["tessera_ingest"])
    assert aws.environments() == [{"RUN_TYPE": "incremental"}]


def test_capacity_providers_replace_the_launch_type(dags, aws):
    run(dags(**QUICK, capacity_providers=["FARGATE_SPOT"])["tessera_ingest"])
    (request,) = aws.asked("RunTask")
    assert request["capacityProviderStrategy"] == [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]
    assert "launchType" not in request


@pytest.mark.parametrize("code", [1, 137, 143])
def test_a_failed_container_is_started_again(dags, aws, code):
    aws.exit_codes = [code, code, 0]
    _, dag_run = run(dags(**QUICK, retries=3)["tessera_ingest"])
    assert str(dag_run.state) == "success"
    first, second, third = aws.environments()
    assert first == second == third


def test_retries_end(dags, aws):
    aws.exit_codes = [1, 1, 1]
    _, dag_run = run(dags(**QUICK, retries=1)["tessera_ingest"])
    assert str(dag_run.state) == "failed"
    assert len(aws.asked("RunTask")) == 2


@pytest.mark.parametrize(("code", "remedy"), [(3, "a quality gate failed"), (2, "bad usage or configuration")])
def test_what_would_fail_again_is_not_retried(dags, aws, capfd, code, remedy):
    aws.exit_codes = [code]
    _, dag_run = run(dags(**QUICK, retries=5, sns_topic="arn:aws:sns:eu-west-1:123456789012:data")["tessera_ingest"])
    assert str(dag_run.state) == "failed"
    assert states(dag_run, "ingest") == ["failed"]
    assert len(aws.asked("RunTask")) == 1
    (message,) = aws.published
    assert remedy in message["Message"]
    assert message["TargetArn"] == "arn:aws:sns:eu-west-1:123456789012:data"


def test_a_retry_waits_for_the_task_that_still_runs(dags, aws):
    aws.still_running = ["arn:aws:ecs:eu-west-1:123456789012:task/tessera/lost"]
    _, dag_run = run(dags(**QUICK)["tessera_ingest"])
    assert str(dag_run.state) == "success"
    assert aws.asked("RunTask") == []
    assert aws.asked("DescribeTasks")[0]["tasks"] == aws.still_running


def test_the_same_holds_when_the_wait_is_deferred(dags, aws):
    dag = dags(**QUICK, retries=5)["tessera_ingest"]
    dag.get_task("ingest").deferrable = True
    aws.exit_codes = [3]
    _, dag_run = run(dag)
    assert str(dag_run.state) == "failed"
    assert len(aws.asked("RunTask")) == 1
    assert any("aiobotocore" in agent for agent in aws.agents), "the triggerer's client has waited"


def test_a_backfill_runs_its_windows_one_after_another(dags, aws):
    dag = dags(**QUICK, pipeline="/pipelines/shop.yaml")["tessera_backfill"]
    _, dag_run = run(
        dag, run_from="2026-01-01T00:00:00Z", run_to="2026-01-21T00:00:00Z", window_days=10, resources="orders"
    )
    assert str(dag_run.state) == "success"
    common = {"RUN_TYPE": "backfill", "RUN_RESOURCES": "orders", "TESSERA_PIPELINE": "/pipelines/shop.yaml"}
    assert sorted(aws.environments(), key=lambda environment: environment["RUN_FROM"]) == [
        {**common, "RUN_FROM": "2026-01-01T00:00:00Z", "RUN_TO": "2026-01-11T00:00:00Z"},
        {**common, "RUN_FROM": "2026-01-11T00:00:00Z", "RUN_TO": "2026-01-21T00:00:00Z"},
    ]


def test_the_scheduler_lets_one_window_run_at_a_time_oldest_first(dags):
    """Asks Airflow's scheduler what it would start, with four windows ready and room for more."""
    from airflow.jobs.job import Job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.models.taskmap import TaskMap
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    dags()
    with create_session() as session:
        sync(session)
        dag = SerializedDagModel.get("tessera_backfill", session=session).dag
        now = datetime(2026, 5, 1, tzinfo=timezone.utc)
        dag_run = dag.create_dagrun(
            run_id="manual__windows",
            logical_date=now,
            data_interval=(now, now),
            run_after=now,
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.UI,
            state="running",
            conf={"run_from": "2026-01-01T00:00:00Z", "run_to": "2026-01-05T00:00:00Z", "window_days": 1},
            session=session,
        )
        dag_run.dag = dag
        plan = next(ti for ti in dag_run.task_instances if ti.task_id == "plan")
        plan.state = "success"
        session.add(TaskMap(dag_id=dag.dag_id, task_id="plan", run_id=dag_run.run_id, map_index=-1, length=4, keys=None))
        session.flush()
        ready, _ = dag_run.update_state(session=session)
        assert sorted(ti.map_index for ti in ready) == [0, 1, 2, 3]
        for ti in ready:
            ti.state = "scheduled"
        session.flush()
        scheduler = SchedulerJobRunner(Job())
        chosen = scheduler._executable_task_instances_to_queued(max_tis=32, session=session)
        assert [(ti.task_id, ti.map_index) for ti in chosen] == [("backfill", 0)]
        session.expire_all()  # the scheduler hands out detached copies
        next(ti for ti in dag_run.get_task_instances(session=session) if ti.map_index == 0).state = "success"
        session.flush()
        chosen = scheduler._executable_task_instances_to_queued(max_tis=32, session=session)
        assert [(ti.task_id, ti.map_index) for ti in chosen] == [("backfill", 1)]
        session.rollback()


def test_one_failed_window_fails_alone(dags, aws):
    aws.exit_codes = [0, 3, 0]
    _, dag_run = run(
        dags(**QUICK)["tessera_backfill"],
        run_from="2026-01-01T00:00:00Z",
        run_to="2026-01-04T00:00:00Z",
        window_days=1,
    )
    assert str(dag_run.state) == "failed"
    assert states(dag_run, "backfill") == ["success", "failed", "success"]


def test_a_backfill_the_wrong_way_round_starts_nothing(dags, aws):
    _, dag_run = run(dags(**QUICK)["tessera_backfill"], run_from="2026-02-01T00:00:00Z", run_to="2026-01-01T00:00:00Z")
    assert str(dag_run.state) == "failed"
    assert aws.calls == []
