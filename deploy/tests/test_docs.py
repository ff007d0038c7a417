"""docs/deploy.md names every setting and every file that it should."""

from __future__ import annotations

import re
import sys

from conftest import DEPLOY, ROOT

TEXT = (ROOT / "docs/deploy.md").read_text()


def test_every_setting_of_the_dags_is_described():
    sys.path.insert(0, str(DEPLOY / "airflow"))
    import tessera_ecs

    assert [key for key in tessera_ecs.DEFAULTS if f"`{key}`" not in TEXT] == []


def test_every_variable_of_compose_is_described(compose):
    names = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    assert [name for name in sorted(names) if f"`{name}`" not in TEXT] == []


def test_every_file_it_names_exists():
    for path in re.findall(r"`(deploy/[\w./-]+)`", TEXT):
        if path != "deploy/.env":
            assert (ROOT / path).exists(), path
    headings = {re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-") for line in TEXT.splitlines() if line.startswith("#")}
    assert {anchor for anchor in re.findall(r"\]\(#([\w-]+)\)", TEXT)} <= headings
