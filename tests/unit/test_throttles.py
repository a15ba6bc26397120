"""Windows of a minute, and a cache that does not answer."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest
from django.core.cache import cache
from redis.exceptions import RedisError

from runapp.http import throttles
from runapp.http.throttles import Counter, find_window
from tests.ports import find_free_port


@pytest.fixture
def closed_redis(settings: Any) -> None:
    """A cache at a port at which nobody listens."""
    port = find_free_port()
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{port}/0",
        }
    }


@pytest.mark.parametrize(
    ("now", "window", "seconds_left"),
    [(0.0, 0, 60), (0.999, 0, 60), (59.0, 0, 1), (59.999, 0, 1), (60.0, 1, 60), (125.5, 2, 55)],
)
def test_windows_follow_each_other(now: float, window: int, seconds_left: int) -> None:
    assert find_window(now) == (window, seconds_left)


def test_each_account_and_window_is_counted_apart() -> None:
    cache.clear()
    counter = Counter()

    numbers = [
        counter.count(account_id=account_id, window=window)
        for account_id, window in [(1, 5), (1, 5), (2, 5), (1, 6), (1, 5)]
    ]

    assert numbers == [1, 2, 1, 1, 3]


def test_request_that_is_first_together_with_another_is_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache.clear()
    add = cache.add

    def add_after_another(key: str, *values: Any, **options: Any) -> bool:
        add(key, 1)
        return bool(add(key, *values, **options))

    monkeypatch.setattr(cache, "add", add_after_another, raising=False)

    assert Counter().count(account_id=1, window=1) == 2


def test_dead_cache_lets_all_through_and_is_told_of_once(
    closed_redis: None, caplog: pytest.LogCaptureFixture
) -> None:
    counter = Counter()
    began = time.monotonic()

    with caplog.at_level(logging.WARNING):
        numbers = [counter.count(account_id=1, window=1) for _ in range(50)]

    assert numbers == [1] * 50
    assert [record.name for record in caplog.records] == ["runapp.http.throttles"]
    assert "the cache does not answer" in caplog.text
    assert time.monotonic() - began < 5


def test_dead_cache_is_not_asked_by_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(key: str) -> int:
        asked.append(key)
        raise RedisError("closed")

    monkeypatch.setattr(throttles, "_raise_count", refuse)
    counter = Counter()

    for _ in range(50):
        counter.count(account_id=1, window=1)

    assert len(asked) == 1


def test_cache_that_is_back_counts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cache.clear()
    counter = Counter()
    with monkeypatch.context() as patch:
        patch.setattr(throttles, "_raise_count", fail)
        counter.count(account_id=1, window=1)
    monkeypatch.setattr(counter._absence, "is_over_or_due", lambda: True)

    assert [counter.count(account_id=1, window=1) for _ in range(2)] == [1, 2]


def fail(key: str) -> int:
    raise RedisError("closed")
