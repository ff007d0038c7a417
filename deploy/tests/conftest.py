"""Reads the files of the folder that the checks are about."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).resolve().parent.parent
ROOT = DEPLOY.parent
BINARY = "/usr/local/bin/tessera"


def load_json(name: str) -> dict:
    return json.loads((DEPLOY / name).read_text())


def load_yaml(name: str) -> dict:
    return yaml.safe_load((DEPLOY / name).read_text())


@pytest.fixture(scope="session")
def compose() -> dict:
    return load_yaml("compose.yaml")
