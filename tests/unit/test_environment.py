"""Settings that the environment gives."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from datarun.environment import read_promises
from runapp.runner.promises import DEFAULT_REQUIRED, Promise

NAME = "DATARUN_REQUIRED_PROMISES"


@pytest.mark.parametrize(
    ("text", "promises"),
    [
        pytest.param(None, DEFAULT_REQUIRED, id="not-set"),
        pytest.param("", frozenset(), id="empty"),
        pytest.param(" ", frozenset(), id="blank"),
        pytest.param("network", {Promise.NETWORK}, id="one"),
        pytest.param(" cpu , memory,cpu,", {Promise.CPU, Promise.MEMORY}, id="loosely-written"),
    ],
)
def test_promises_are_read(
    text: str | None, promises: set[Promise], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(NAME, raising=False)
    if text is not None:
        monkeypatch.setenv(NAME, text)

    assert read_promises(NAME, DEFAULT_REQUIRED) == promises


def test_unknown_promises_are_refused_with_those_that_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(NAME, "network,flies,Files")

    with pytest.raises(ImproperlyConfigured) as caught:
        read_promises(NAME, DEFAULT_REQUIRED)

    assert str(caught.value) == (
        "DATARUN_REQUIRED_PROMISES names Files, flies; allowed are: network, files, labels, "
        "neighbours, processes, memory, cpu, scratch, kernel."
    )
