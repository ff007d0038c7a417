"""Tessera's scheduled ingest on ECS: one incremental run per data interval.

The container gets RUN_TYPE=incremental, RUN_FROM and RUN_TO from the data interval, and RUN_RESOURCES.
State is in the bucket, so a retry in a new container resumes. Settings: see ``tessera_ecs.DEFAULTS``.
"""

from __future__ import annotations

from datetime import datetime, timezone

import tessera_ecs as tessera
from airflow.sdk import DAG, CronDataIntervalTimetable, Param


def build(settings: tessera.Settings) -> DAG:
    windowed = settings.window == "interval"
    with DAG(
        dag_id=settings.dag_id("ingest"),
        description="Incremental run of a Tessera pipeline on ECS",
        doc_md=__doc__,
        # A plain cron string has no data interval in Airflow 3: its start and end are the same moment.
        schedule=CronDataIntervalTimetable(settings.schedule, timezone=settings.timezone),
        start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),
        catchup=False,
        max_active_runs=1,
        deadline=tessera.deadlines(settings),
        default_args=tessera.task_arguments(settings),
        user_defined_macros={"window_from": tessera.window_from, "window_to": tessera.window_to},
        params={
            **tessera.resource_params(settings),
            "run_from": Param(None, type=["null", "string"], format="date-time", title="From, instead of the interval's"),
            "run_to": Param(None, type=["null", "string"], format="date-time", title="To, instead of the interval's"),
        },
        tags=["tessera", "ingest"],
    ) as dag:
        tessera.TesseraRunTask(
            task_id="ingest",
            environment=tessera.run_environment(
                settings,
                run_type="incremental",
                run_from="{{ window_from(params, dag_run, prev_data_interval_end_success | default(none)) }}" if windowed else "{{ params.run_from or '' }}",
                run_to="{{ window_to(params, dag_run) }}" if windowed else "{{ params.run_to or '' }}",
            ),
            **tessera.ecs_arguments(settings),
        )
    return dag


for _settings in tessera.load_settings():
    globals()[_settings.dag_id("ingest")] = build(_settings)
