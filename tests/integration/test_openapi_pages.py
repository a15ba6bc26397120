"""The document and its pages: for everybody, and from local files alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import closing

import pytest
import yaml
from django.test import Client

from tests.openapi import read_document

pytestmark = pytest.mark.any_database
PAGES = ["/docs/", "/docs/redoc/"]


@pytest.mark.parametrize(
    ("query", "accept", "media_type"),
    [
        ("", "*/*", "application/vnd.oai.openapi"),
        ("", "application/json", "application/json"),
        ("?format=json", "*/*", "application/vnd.oai.openapi+json"),
        ("?format=yaml", "*/*", "application/vnd.oai.openapi"),
    ],
)
def test_document_is_served_as_asked_for(query: str, accept: str, media_type: str) -> None:
    response = Client().get(f"/schema/{query}", headers={"accept": accept})

    assert response.status_code == 200
    assert response.headers["Content-Type"].split(";")[0] == media_type
    read = json.loads if "json" in media_type else yaml.safe_load
    assert read(response.content) == read_document()


@pytest.mark.parametrize("path", ["/schema/", *PAGES])
def test_wrong_password_keeps_nobody_from_reading(path: str) -> None:
    response = Client().get(path, headers={"authorization": "Basic Zm9vOmJhcg=="})

    assert response.status_code == 200


@pytest.mark.django_db  # an answer that is closed looks after the connection
@pytest.mark.parametrize("path", PAGES)
def test_page_loads_what_it_names_from_here(path: str) -> None:
    client = Client()
    page = client.get(path)

    named = re.findall(r'(?:src|href|spec-url)="([^"]*)"', page.content.decode())

    assert len(named) >= 3
    assert not [url for url in named if not url.startswith("/") or url.startswith("//")]
    for url in named:
        with closing(client.get(url)) as response:
            assert response.status_code == 200, url


@pytest.mark.parametrize("path", PAGES)
def test_page_may_load_nothing_from_elsewhere(path: str) -> None:
    policy = Client().get(path).headers["Content-Security-Policy"]

    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "http" not in policy


def test_first_documents_that_are_asked_for_at_once_are_answered() -> None:
    # In a process of its own: what fails is done once in each.
    code = """
import django, sys
django.setup()
from concurrent.futures import ThreadPoolExecutor
from django.test import Client
Client().get("/docs/", HTTP_HOST="localhost")  # all else is there
sys.setswitchinterval(1e-6)
with ThreadPoolExecutor(8) as pool:
    answers = pool.map(lambda _: Client().get("/schema/", HTTP_HOST="localhost"), range(8))
    assert {answer.status_code for answer in answers} == {200}
"""

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )

    assert done.returncode == 0, done.stderr
