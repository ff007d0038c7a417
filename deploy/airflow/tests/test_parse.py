"""The DAG files as Airflow's own DAG processor reads them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
import tessera_ecs as tessera
from conftest import FOLDER, NETWORK


def test_without_any_setting_there_are_two_dags(monkeypatch):
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.delenv("AIRFLOW_VAR_TESSERA", raising=False)
    bag = DagBag(dag_folder=str(FOLDER))
    assert bag.import_errors == {}
    assert sorted(bag.dags) == ["tessera_backfill", "tessera_ingest"]


def test_each_pipeline_has_its_own_pair_with_its_own_values(dags):
    found = dags(retries=2, pipelines={"shop": {"schedule": "*/15 * * * *", "retries": 7}, "crm": {}})
    assert sorted(found) == [f"tessera_{verb}_{name}" for verb in ("backfill", "ingest") for name in ("crm", "shop")]
    assert found["tessera_ingest_shop"].get_task("ingest").retries == 7
    assert found["tessera_ingest_crm"].get_task("ingest").retries == 2


def test_runs_never_overlap_and_nothing_is_caught_up(dags):
    for dag in dags().values():
        assert dag.max_active_runs == 1
        assert dag.catchup is False
    assert dags()["tessera_backfill"].get_task("backfill").partial_kwargs["max_active_tis_per_dag"] == 1


def test_retries_back_off_exponentially_up_to_a_limit(dags):
    task = dags(retries=3, retry_delay_s=30, max_retry_delay_s=600)["tessera_ingest"].get_task("ingest")
    assert (task.retries, task.retry_delay, task.max_retry_delay) == (3, timedelta(seconds=30), timedelta(minutes=10))
    assert task.retry_exponential_backoff == 2.0
    assert task.execution_timeout == timedelta(hours=6)


def test_the_schedule_has_real_intervals(dags):
    from airflow.serialization.encoders import coerce_to_core_timetable
    from airflow.timetables.base import TimeRestriction

    timetable = coerce_to_core_timetable(dags(schedule="0 6 * * *", timezone="Europe/Lisbon")["tessera_ingest"].timetable)
    import pendulum

    start = pendulum.datetime(2026, 7, 1)
    info = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=TimeRestriction(start, None, True))
    assert info.data_interval.start.isoformat() == "2026-07-01T05:00:00+00:00"
    assert info.data_interval.end.isoformat() == "2026-07-02T05:00:00+00:00"


def test_dags_survive_serialization(dags):
    from airflow.serialization.serialized_objects import DagSerialization

    for dag in dags(**NETWORK, sns_topic="arn:aws:sns:eu-west-1:123456789012:data").values():
        text = DagSerialization.to_dict(dag)
        assert DagSerialization.from_dict(json.loads(json.dumps(text))).dag_id == dag.dag_id


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"clustre": "x"}, "unknown key `clustre`"),
        ({"pipelines": {"shop": {"retry": 1}}}, "`tessera.pipelines.shop` has the unknown key `retry`"),
        ({"window": "day"}, "window is `day`; use `interval` or `cursor`"),
        ([1], "make it a JSON object"),
    ],
)
def test_bad_settings_are_import_errors_that_name_the_key(monkeypatch, value, message):
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv("AIRFLOW_VAR_TESSERA", json.dumps(value))
    bag = DagBag(dag_folder=str(FOLDER))
    assert len(bag.import_errors) == 2
    assert all(message in error for error in bag.import_errors.values())


def test_windows_cover_the_span_without_gap_or_overlap():
    found = tessera.windows("2026-01-01", "2026-03-15T12:00:00+01:00", 30)
    assert found == [
        ("2026-01-01T00:00:00Z", "2026-01-31T00:00:00Z"),
        ("2026-01-31T00:00:00Z", "2026-03-02T00:00:00Z"),
        ("2026-03-02T00:00:00Z", "2026-03-15T11:00:00Z"),
    ]
    assert tessera.windows("2026-01-01", "2026-01-31", 30) == [("2026-01-01T00:00:00Z", "2026-01-31T00:00:00Z")]


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [("2026-02-01", "2026-01-01", "swap them"), ("2000-01-01", "2026-01-01", "use longer windows")],
)
def test_impossible_windows_say_what_to_do(start, end, message):
    from airflow.sdk.exceptions import AirflowFailException

    with pytest.raises(AirflowFailException, match=message):
        tessera.windows(start, end, 1)


def test_a_failed_interval_leaves_no_gap():
    class Run:
        data_interval_start = datetime(2026, 1, 1, 6, tzinfo=timezone.utc)
        data_interval_end = datetime(2026, 1, 1, 7, tzinfo=timezone.utc)

    class Undated:
        data_interval_start = data_interval_end = None

    last = datetime(2026, 1, 1, 3, tzinfo=timezone.utc)
    assert tessera.window_from({}, Run, None) == "2026-01-01T06:00:00Z"
    assert tessera.window_from({}, Run, last) == "2026-01-01T03:00:00Z"
    assert tessera.window_from({"run_from": "2025-12-31T00:00:00+01:00"}, Run, last) == "2025-12-30T23:00:00Z"
    assert tessera.window_to({}, Run) == "2026-01-01T07:00:00Z"
    assert tessera.window_from({}, Undated, None) == tessera.window_to({}, Undated) == ""
