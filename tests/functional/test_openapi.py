"""schemathesis against the running server: every answer as the document says, whatever is sent."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.effort import IS_SOAK
from tests.functional.account import Account
from tests.functional.service import Service

PROJECT = Path(__file__).resolve().parents[2]
CONFIGURATION = "tests/functional/schemathesis.toml"


@pytest.fixture(autouse=True)
def tidy(account: Account) -> Iterator[None]:
    """Delete what was made: the service is shared."""
    yield
    for row in account.send("GET", "rawdata/").json():
        assert account.send("DELETE", f"rawdata/{row['id']}/").status_code == 204


def fuzz(service: Service, *options: str) -> str:
    """Run schemathesis to its end and return what it prints; it must not find anything."""
    # Without a soak the same is tried each time: who changes something else finds nothing old.
    brief = () if IS_SOAK else ("--seed", "1", "--exclude-deprecated")
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("st")),
            *("--config-file", CONFIGURATION, "run", f"{service.host_url}schema/"),
            *("--url", service.host_url.rstrip("/"), *brief, *options),
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def count_cases(output: str) -> int:
    found = re.search(r"(\d+) generated", output)
    assert found is not None, output
    return int(found[1])


def test_every_answer_is_as_the_document_says(embedded_service: Service, account: Account) -> None:
    embedded_service.make_account("neighbour")  # datasets are shared with it (fuzz_hooks.py)
    sign_in = ("--auth", f"{account.username}:{account.password}")

    output = fuzz(embedded_service, *sign_in, "--max-examples", "200" if IS_SOAK else "4")

    assert count_cases(output) > (4000 if IS_SOAK else 500)


def test_who_has_no_account_is_refused_as_the_document_says(embedded_service: Service) -> None:
    # A success without an account is one of the things that it looks for.
    phases = ("--phases", "examples,fuzzing", "--max-examples", "40" if IS_SOAK else "2")

    output = fuzz(embedded_service, *phases)

    assert count_cases(output) > 40
