"""Every snippet of docs/api.md, run in order against a server, with an account of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.functional.account import Account
from tests.functional.service import Service

PROJECT = Path(__file__).resolve().parents[2]
# Each by a test of its own below.
RUN = {"python", "sh", "json", "http"}
SECONDS = 150


def list_snippets() -> list[tuple[str, str]]:
    page = (PROJECT / "docs" / "api.md").read_text()
    return re.findall(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def join_snippets(language: str, account: Account) -> str:
    """Return all snippets of a language as one program, for this server and this account."""
    program = "\n".join(text for name, text in list_snippets() if name == language)
    for placeholder, value in (
        ("http://127.0.0.1:8000/", account.host_url),
        ("alice", account.username),
        ("correct-horse-battery", account.password),
    ):
        assert placeholder in program
        program = program.replace(placeholder, value)
    return program


def run(command: list[str], program: str) -> str:
    done = subprocess.run(
        command,
        cwd=PROJECT,
        input=program,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def reader(request: pytest.FixtureRequest, embedded_service: Service) -> Iterator[Account]:
    """Someone who has just made an account, and deletes his datasets at the end."""
    account = embedded_service.make_account(request.node.name.removeprefix("test_"))
    yield account
    for row in account.send("GET", "rawdata/").json():
        account.send("DELETE", f"rawdata/{row['id']}/")


def test_languages_are_those_that_are_run() -> None:
    assert {language for language, _ in list_snippets()} == RUN


def test_python_snippets_lead_to_predictions(reader: Account) -> None:
    output = run([sys.executable, "-"], join_snippets("python", reader))

    dataset, *lines = output.splitlines()
    assert dataset == "the dataset is READY"
    for fold, (figures, predictions) in enumerate(zip(lines[0:6:2], lines[1:6:2], strict=True)):
        assert re.fullmatch(rf"{100 + fold} TESTED [\d.]+ [\d.]+", figures)
        assert predictions.startswith("(45, 3) [")
    assert lines[6] == "taken before"
    assert lines[7].startswith("submission_error")
    assert "SyntaxError" in output


def test_shell_snippets_lead_to_predictions(reader: Account, tmp_path: Path) -> None:
    program = join_snippets("sh", reader).replace("predictions.npy", f"{tmp_path}/predictions.npy")

    # What a reader types line by line ends at the first command that fails.
    output = run(["bash", "-c", f"set -euo pipefail\n{program}"], "")

    assert "TESTED" in output.splitlines()
    assert output.rstrip().endswith("\n400")
    assert '"code":"unique"' in output
    assert np.load(tmp_path / "predictions.npy").shape == (45, 3)


def reduce_to_shape(value: Any) -> Any:
    """Return what is left of JSON without its values: names and types."""
    if isinstance(value, dict):
        return {name: reduce_to_shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [reduce_to_shape(inner) for inner in value]
    return type(value).__name__


def reduce_numbers(text: str) -> str:
    return re.sub(r"\d+", "0", text)


def test_answers_shown_have_the_shape_of_real_ones(
    reader: Account, embedded_service: Service
) -> None:
    limit = ("quota", reader.username, "--folds-per-day", "200", "--waiting-folds", "50")
    embedded_service.manage(*limit)
    raw_data = reader.post_dataset(
        name="iris",
        target="species",
        elements="classifier",
        files=[PROJECT / "test_files" / "iris" / "iris.csv"],
    )
    taken = reader.send("GET", f"rawdata/{raw_data}/").json()
    file = {"iris.csv": "eJwDAAAAAAE="}
    fold = {
        "databoard_sf_id": 1,
        "databoard_s_id": 1,
        "train_is": "eJxjYIAAAAAIAAE=",
        "test_is": "eJxjYIAAAAAIAAE=",
        "raw_data": raw_data,
        "files": {"classifier.py": "eJwDAAAAAAE="},
    }

    bulk = reader.send("POST", "submissionfold/bulk/?fields=databoard_sf_id,state", [fold, fold])
    embedded_service.manage("quota", reader.username, "--submissions-per-day", "5")
    token = {"name": "nightly run", "expires_in_days": 90}
    real = [
        reader.send("POST", "tokens/", token).json(),
        bulk.json(),
        reader.send("GET", "account/").json(),
        reader.send(
            "POST",
            "rawdata/",
            {
                "name": taken["name"],
                "target_column": "species",
                "workflow_elements": "classifier",
                "files": file,
            },
        ).json(),
    ]

    shown = [json.loads(text) for language, text in list_snippets() if language == "json"]
    assert [reduce_to_shape(answer) for answer in shown] == [
        reduce_to_shape(answer) for answer in real
    ]
    assert [answer["status"] for answer in shown[1]] == [answer["status"] for answer in real[1]]
    assert shown[3] == real[3]
    (fields,) = [text for language, text in list_snippets() if language == "http"]
    for line in fields.splitlines():
        name, _, value = line.partition(": ")
        assert reduce_numbers(value) == reduce_numbers(bulk.headers[name])
