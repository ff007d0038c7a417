"""A real Airflow in a temporary home, the DAG folder as it is deployed, and an AWS on a local port."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent
HOME = tempfile.mkdtemp(prefix="tessera-airflow-")
sys.path[:0] = [str(FOLDER), str(Path(__file__).parent)]

# Before the first import of airflow: it reads its configuration then.
os.environ.update(
    AIRFLOW_HOME=HOME,
    AIRFLOW__CORE__DAGS_FOLDER=str(FOLDER),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__UNIT_TEST_MODE="False",
    AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION="False",
    AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL="0",
    AIRFLOW__LOGGING__LOGGING_LEVEL="WARNING",
    AIRFLOW_CONN_AWS_DEFAULT="aws://",
    AWS_ACCESS_KEY_ID="test",
    AWS_SECRET_ACCESS_KEY="test",
    AWS_DEFAULT_REGION="eu-west-1",
    AWS_EC2_METADATA_DISABLED="true",
    no_proxy="127.0.0.1",
)

from fake_aws import FakeAws  # noqa: E402

NETWORK = {"subnets": ["subnet-1", "subnet-2"], "security_groups": ["sg-1"]}
QUICK = {"retry_delay_s": 0.1, "max_retry_delay_s": 1, "poll_s": 0}


@pytest.fixture(scope="session", autouse=True)
def database() -> None:
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture(scope="session")
def aws_server() -> FakeAws:
    return FakeAws()


@pytest.fixture
def aws(aws_server: FakeAws, monkeypatch: pytest.MonkeyPatch) -> FakeAws:
    aws_server.reset()
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_server.url)
    return aws_server


@pytest.fixture
def dags(monkeypatch: pytest.MonkeyPatch):
    """Parses the folder under given settings: ``dags(deadline_s=60)["tessera_ingest"]``."""

    def parse(**settings):
        from airflow.dag_processing.dagbag import DagBag

        monkeypatch.setenv("AIRFLOW_VAR_TESSERA", json.dumps(settings))
        bag = DagBag(dag_folder=str(FOLDER))
        assert bag.import_errors == {}
        return bag.dags

    return parse


def sync(session) -> None:
    """Writes the folder's DAGs to the database, as the DAG processor does."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    DagBundlesManager().sync_bundles_to_db(session=session)
    session.commit()
    sync_bag_to_db(DagBag(dag_folder=str(FOLDER)), "dags-folder", None)
