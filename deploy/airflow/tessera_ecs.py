"""What both Tessera DAGs share: settings, the ECS task, the window of a run, the alerts.

Settings come from one Airflow Variable named ``tessera``, a JSON object; every key is optional and
listed in ``DEFAULTS``. Airflow reads a Variable from its environment first, so
``AIRFLOW_VAR_TESSERA='{"cluster": "data"}'`` configures everything without the database.
``pipelines`` maps a pipeline's name to its own values of the same keys; each gets its own pair of DAGs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.amazon.aws.hooks.ecs import EcsHook
from airflow.providers.amazon.aws.notifications.sns import SnsNotifier
from airflow.providers.amazon.aws.operators.ecs import EcsRunTaskOperator
from airflow.providers.http.notifications.http import HttpNotifier
from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference, Param, Variable
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

DEFAULTS: dict[str, Any] = {
    # Where the task runs.
    "cluster": "tessera",
    "task_definition": "tessera-ingest",  # family, family:revision or ARN
    "container": "tessera",  # the container's name in that task definition
    "launch_type": "FARGATE",
    "capacity_providers": [],  # ["FARGATE_SPOT"]; replaces launch_type
    "subnets": [],
    "security_groups": [],
    "assign_public_ip": "DISABLED",
    "aws_conn_id": "aws_default",
    "region": None,
    "log_group": None,  # with it, the container's log lines appear in the Airflow task log
    "log_stream_prefix": "ecs",
    "poll_s": 6,
    # What it runs.
    "pipeline": None,  # TESSERA_PIPELINE: path of the file in the image; None: what the task definition says
    "resources": [],  # [] is all of them
    "environment": {},  # more variables for the container; never secrets, those are in the task definition
    # When, and how often.
    "schedule": "0 * * * *",
    "timezone": "UTC",
    "window": "interval",  # "interval": RUN_FROM and RUN_TO; "cursor": neither, the saved cursors decide
    "backfill_window_days": 30,
    "retries": 4,
    "retry_delay_s": 60,
    "max_retry_delay_s": 1800,
    "timeout_s": 6 * 3600,
    "pool": "default_pool",  # a pool of one slot keeps a pipeline's two DAGs from running at once
    "owner": "data",
    # Who hears of it. The deadline is a run's SLA: it needs one of the two channels.
    "deadline_s": 5400,
    "sns_topic": None,
    "http_conn_id": None,  # Airflow connection of type HTTP: a webhook that takes {"text": …}
    "http_endpoint": None,
}

QUALITY_GATE_FAILED = 3
BAD_USAGE = 2
FINAL = {
    BAD_USAGE: "bad usage or configuration (exit code 2): correct the pipeline, the variables or the task definition",
    QUALITY_GATE_FAILED: "a quality gate failed (exit code 3): that resource was not committed and its cursor "
    "stays; look at `tessera ingest quality`, correct the data or the rule, then clear this task",
}
"""Exit codes that the same run would end with again, so it is not retried, and what to do."""

MAX_WINDOWS = 1000
"""Backfill windows in one run, below Airflow's default `core.max_map_length` of 1024."""


@dataclass(frozen=True)
class Settings:
    """One pipeline's settings: ``DEFAULTS``, the Variable's values, the pipeline's own values, in this order."""

    name: str | None
    values: dict[str, Any]

    def __getattr__(self, key: str) -> Any:
        try:
            return self.__dict__["values"][key]
        except KeyError:
            raise AttributeError(key) from None

    def dag_id(self, verb: str) -> str:
        return f"tessera_{verb}_{self.name}" if self.name else f"tessera_{verb}"


def load_settings() -> list[Settings]:
    """Reads the Variable once; refuses unknown keys by name."""
    given = Variable.get("tessera", default={}, deserialize_json=True)
    if not isinstance(given, dict):
        raise ValueError(f"variable `tessera` is a {type(given).__name__}; make it a JSON object")
    pipelines = given.pop("pipelines", None) or {None: {}}
    return [Settings(name, _merged(name, given, own)) for name, own in pipelines.items()]


def _merged(name: str | None, given: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    for place, keys in (("tessera", given), (f"tessera.pipelines.{name}", own)):
        for key in keys:
            if key not in DEFAULTS:
                raise ValueError(f"variable `{place}` has the unknown key `{key}`; known are: {', '.join(DEFAULTS)}")
    values = {**DEFAULTS, **given, **own}
    if values["window"] not in ("interval", "cursor"):
        raise ValueError(f"variable `tessera`: window is `{values['window']}`; use `interval` or `cursor`")
    return values


class TesseraRunTask(EcsRunTaskOperator):
    """Runs ``tessera ingest run`` in the container of an ECS task, with its parameters as environment variables.

    ``environment`` is templated; variables that come out empty are left out, so that the task definition's hold.
    A run that could only fail the same way again (see ``FINAL``) fails at once; every other failure is retried,
    and resumes from the state in the bucket. A retry after a lost worker finds the task still running and
    waits for that one (``reattach``).
    """

    template_fields = (*EcsRunTaskOperator.template_fields, "environment")
    template_fields_renderers = {**EcsRunTaskOperator.template_fields_renderers, "environment": "json"}

    def __init__(self, *, environment: dict[str, str], container_name: str, **kwargs: Any) -> None:
        super().__init__(container_name=container_name, overrides={}, reattach=True, **kwargs)
        self.environment = environment

    def execute(self, context: Any) -> Any:
        variables = [{"name": k, "value": str(v)} for k, v in self.environment.items() if v not in (None, "")]
        self.overrides = {"containerOverrides": [{"name": self.container_name, "environment": variables}]}
        with self._final_exit_codes():
            return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any] | None = None) -> Any:
        with self._final_exit_codes():
            return super().execute_complete(context, event)

    @contextmanager
    def _final_exit_codes(self) -> Iterator[None]:
        try:
            yield
        except (AirflowSkipException, AirflowFailException):
            raise
        except AirflowException as failure:
            remedy = FINAL.get(self._exit_code())
            if remedy is None:
                raise
            raise AirflowFailException(f"{remedy} (task {self.arn})") from failure

    def _exit_code(self) -> int | None:
        if not self.arn:
            return None
        tasks = self.client.describe_tasks(cluster=self.cluster, tasks=[self.arn])["tasks"]
        containers = [c for task in tasks for c in task["containers"] if c["name"] == self.container_name]
        return containers[0].get("exitCode") if containers else None


def ecs_arguments(settings: Settings) -> dict[str, Any]:
    """Arguments of ``TesseraRunTask`` that do not depend on the run."""
    network = {
        "subnets": settings.subnets,
        "securityGroups": settings.security_groups,
        "assignPublicIp": settings.assign_public_ip,
    }
    logs = {"awslogs_group": settings.log_group, "awslogs_stream_prefix": settings.log_stream_prefix}
    providers = [{"capacityProvider": name, "weight": 1} for name in settings.capacity_providers]
    return {
        "cluster": settings.cluster,
        "task_definition": settings.task_definition,
        "container_name": settings.container,
        "launch_type": settings.launch_type,
        "capacity_provider_strategy": providers or None,
        "network_configuration": {"awsvpcConfiguration": network} if settings.subnets else None,
        "propagate_tags": "TASK_DEFINITION",
        "aws_conn_id": settings.aws_conn_id,
        "region_name": settings.region,
        "waiter_delay": settings.poll_s,
        **(logs if settings.log_group else {}),
    }


def task_arguments(settings: Settings) -> dict[str, Any]:
    """Arguments of any operator: retries with exponential back-off, limits, alerts."""
    return {
        "owner": settings.owner,
        "retries": settings.retries,
        "retry_delay": timedelta(seconds=settings.retry_delay_s),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(seconds=settings.max_retry_delay_s),
        "execution_timeout": timedelta(seconds=settings.timeout_s),
        "pool": settings.pool,
        "on_failure_callback": [
            notifier(**arguments)
            for notifier, arguments in _alerts(
                settings, "{{ dag.dag_id }}: {{ ti.task_id }} of {{ run_id }} failed. {{ exception }}"
            )
        ],
    }


def deadlines(settings: Settings) -> list[DeadlineAlert] | None:
    """The SLA: an alert for a run that has not finished ``deadline_s`` after it was queued.

    Airflow 3 has no ``sla`` argument; deadline alerts replace it. The callback runs in the triggerer, which
    cannot import from the DAG folder, so it is one of the providers' own notifiers.
    """
    text = f"{{{{ dag_run.dag_id }}}}: run {{{{ dag_run.dag_run_id }}}} has not finished after {settings.deadline_s} s."
    alerts = [
        DeadlineAlert(
            name=f"{settings.dag_id('ingest')}_sla",
            reference=DeadlineReference.DAGRUN_QUEUED_AT,
            interval=timedelta(seconds=settings.deadline_s),
            callback=AsyncCallback(notifier, kwargs=arguments),
        )
        for notifier, arguments in _alerts(settings, text)
    ]
    return alerts or None


def _alerts(settings: Settings, text: str) -> Iterator[tuple[type, dict[str, Any]]]:
    text = f"{text} Owner: {settings.owner}."
    if settings.sns_topic:
        yield (
            SnsNotifier,
            {
                "aws_conn_id": settings.aws_conn_id,
                "region_name": settings.region,
                "target_arn": settings.sns_topic,
                "subject": "Tessera ingest",
                "message": text,
            },
        )
    if settings.http_conn_id:
        yield (
            HttpNotifier,
            {"http_conn_id": settings.http_conn_id, "endpoint": settings.http_endpoint, "json": {"text": text}},
        )


def run_environment(settings: Settings, run_type: str, run_from: str, run_to: str) -> dict[str, str]:
    """The container's variables; the values may be templates."""
    return {
        **settings.environment,
        "RUN_TYPE": run_type,
        "RUN_FROM": run_from,
        "RUN_TO": run_to,
        "RUN_RESOURCES": "{{ params.resources or '' }}",
        "RUN_LIMIT": "{{ params.limit or '' }}",
        "TESSERA_PIPELINE": settings.pipeline or "",
    }


def resource_params(settings: Settings) -> dict[str, Param]:
    """Parameters that both DAGs ask for."""
    return {
        "resources": Param(
            ",".join(settings.resources) or None,
            type=["null", "string"],
            title="Resources",
            description="Names with commas between; empty for all.",
        ),
        "limit": Param(
            None, type=["null", "integer"], minimum=1, title="Limit", description="Rows per resource at most; for trials."
        ),
    }


def moment(value: Any) -> datetime:
    """A time from a parameter; without an offset it is UTC."""
    parsed = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)


def rfc3339(value: Any) -> str:
    """How Tessera reads a time."""
    return moment(value).isoformat().replace("+00:00", "Z")


def window_from(params: dict[str, Any], dag_run: Any, last_success_end: datetime | None) -> str:
    """``RUN_FROM``: the parameter; else the end of the last interval that succeeded, so that a failed or skipped run
    leaves no gap; else the start of this interval. Empty for a run without an interval (asset or manual without date).
    """
    start = params.get("run_from") or last_success_end or dag_run.data_interval_start
    return rfc3339(start) if start else ""


def window_to(params: dict[str, Any], dag_run: Any) -> str:
    """``RUN_TO``: the parameter, else the end of this interval."""
    end = params.get("run_to") or dag_run.data_interval_end
    return rfc3339(end) if end else ""


def windows(run_from: Any, run_to: Any, days: int) -> list[tuple[str, str]]:
    """Half-open windows of ``days`` days that cover ``run_from`` to ``run_to``, oldest first."""
    start, end = moment(run_from), moment(run_to)
    if start >= end:
        raise AirflowFailException(f"run_from `{rfc3339(start)}` is not before run_to `{rfc3339(end)}`; swap them")
    step = timedelta(days=days)
    count = -(-(end - start) // step)
    if count > MAX_WINDOWS:
        raise AirflowFailException(f"{count} windows of {days} days; at most {MAX_WINDOWS}: use longer windows")
    edges = [start + step * i for i in range(count)] + [end]
    return [(rfc3339(a), rfc3339(b)) for a, b in zip(edges, edges[1:], strict=False)]
