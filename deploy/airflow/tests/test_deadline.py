"""The SLA: Airflow stores a deadline for every run, and what it calls when one is missed reaches the channel."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta, timezone

import pytest
from conftest import QUICK, sync

TOPIC = "arn:aws:sns:eu-west-1:123456789012:data"
QUEUED = datetime(2026, 1, 1, 7, 0, 5, tzinfo=timezone.utc)


def test_without_a_channel_there_is_no_deadline(dags):
    assert not dags()["tessera_ingest"].deadline


def test_a_run_gets_its_deadline_from_when_it_was_queued(dags):
    (alert,) = dags(sns_topic=TOPIC, deadline_s=900)["tessera_ingest"].deadline
    assert alert.reference.reference_name == "DagRunQueuedAtDeadline"
    assert alert.interval == timedelta(seconds=900)


def missed(monkeypatch, **settings):
    """Queues a run in the past as the scheduler does, lets its deadline pass, and returns the triggers it causes."""
    from airflow.models import DagRun
    from airflow.models.deadline import Deadline
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType, DagRunType
    from sqlalchemy import select

    monkeypatch.setenv("AIRFLOW_VAR_TESSERA", json.dumps({**settings, **QUICK}))
    with create_session() as session:
        sync(session)
        dag = SerializedDagModel.get("tessera_ingest", session=session).dag
        run_id = f"scheduled__{settings['deadline_s']}"
        dag_run = dag.create_dagrun(
            run_id=run_id,
            logical_date=QUEUED + timedelta(seconds=settings["deadline_s"]),
            data_interval=(QUEUED - timedelta(hours=1), QUEUED),
            run_after=QUEUED,
            run_type=DagRunType.SCHEDULED,
            triggered_by=DagRunTriggeredByType.TIMETABLE,
            state="queued",
            session=session,
        )
        session.commit()
        triggers = []
        for deadline in session.scalars(select(Deadline).join(DagRun).where(DagRun.run_id == run_id)):
            assert deadline.deadline_time == dag_run.queued_at + timedelta(seconds=settings["deadline_s"])
            deadline.handle_miss(session)
            triggers.append((deadline.callback.trigger.classpath, deadline.callback.trigger.kwargs))
        session.rollback()
    return run_id, triggers


def fire(triggers):
    """What the triggerer does with them."""
    from airflow.sdk._shared.module_loading import import_string

    async def run(classpath, kwargs):
        return [event.payload["state"] async for event in import_string(classpath)(**kwargs).run()]

    return [[str(getattr(s, "value", s)) for s in asyncio.run(run(*trigger))] for trigger in triggers]


def test_a_missed_deadline_is_published_to_sns(monkeypatch, aws):
    run_id, triggers = missed(monkeypatch, sns_topic=TOPIC, deadline_s=900, owner="data@example.com")
    assert fire(triggers) == [["running", "success"]]
    (message,) = aws.published
    assert message["TargetArn"] == TOPIC
    text = f"tessera_ingest: run {run_id} has not finished after 900 s. Owner: data@example.com."
    assert json.loads(message["Message"]) == {"default": text}


def test_a_missed_deadline_is_posted_to_a_webhook(monkeypatch, aws):
    monkeypatch.setenv("AIRFLOW_CONN_PAGER", json.dumps({"conn_type": "http", "host": aws.url}))
    _, triggers = missed(monkeypatch, http_conn_id="pager", http_endpoint="webhook", deadline_s=60)
    assert fire(triggers) == [["running", "success"]]
    (body,) = aws.webhooks
    assert body["text"].startswith("tessera_ingest: run scheduled__")


@pytest.mark.parametrize("settings", [{"sns_topic": TOPIC}, {"http_conn_id": "pager"}])
def test_a_backfill_has_no_deadline(dags, settings):
    assert not dags(**settings)["tessera_backfill"].deadline
