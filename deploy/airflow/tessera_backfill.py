"""Tessera's backfill on ECS: started by hand with run_from and run_to, in windows that run one after another.

Runs of one pipeline exclude each other, so only one window runs at a time; a window that failed can be
cleared alone, and resumes. Settings: see ``tessera_ecs.DEFAULTS``.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import tessera_ecs as tessera
from airflow.sdk import DAG, Param, task


def build(settings: tessera.Settings) -> DAG:
    with DAG(
        dag_id=settings.dag_id("backfill"),
        description="Backfill of a Tessera pipeline on ECS, in windows",
        doc_md=__doc__,
        schedule=None,
        start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),
        catchup=False,
        max_active_runs=1,
        default_args=tessera.task_arguments(settings),
        params={
            "run_from": Param(type="string", format="date-time", title="From"),
            "run_to": Param(type="string", format="date-time", title="To (not included)"),
            "window_days": Param(settings.backfill_window_days, type="integer", minimum=1, title="Days per window"),
            **tessera.resource_params(settings),
        },
        tags=["tessera", "backfill"],
    ) as dag:

        @task(pool="default_pool", retries=0)
        def plan(params: dict[str, Any] | None = None) -> list[dict[str, str]]:
            """One environment per window."""
            return [
                {
                    **tessera.run_environment(settings, "backfill", start, end),
                    "RUN_RESOURCES": params["resources"] or "",
                    "RUN_LIMIT": str(params["limit"] or ""),
                }
                for start, end in tessera.windows(params["run_from"], params["run_to"], params["window_days"])
            ]

        tessera.TesseraRunTask.partial(
            task_id="backfill",
            max_active_tis_per_dag=1,
            map_index_template="{{ task.environment['RUN_FROM'] }} to {{ task.environment['RUN_TO'] }}",
            **tessera.ecs_arguments(settings),
        ).expand(environment=plan())
    return dag


for _settings in tessera.load_settings():
    globals()[_settings.dag_id("backfill")] = build(_settings)
