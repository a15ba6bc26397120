"""The connection of a worker to a broker that may be away for a while."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

from celery.app.amqp import AMQP
from kombu import Connection

logger = logging.getLogger(__name__)

MOST_SECONDS = 5.0

Errback = Callable[[Exception, float], Any]


class PatientConnection(Connection):
    """Waits for a broker with tries at least every five seconds, each told in one line."""

    def ensure_connection(  # type: ignore[override]
        self,
        errback: Errback | None = None,
        max_retries: Any = None,
        **kwargs: Any,
    ) -> Connection:
        """Connect, for as long as it takes where a consumer asks (`errback`, no `max_retries`).

        Celery gives its consumers no way to set the intervals, which grow to half a minute:
        celery/worker/consumer/consumer.py, `ensure_connected`.
        """
        if errback is None or max_retries is not None:
            return super().ensure_connection(errback, max_retries, **kwargs)
        tries: list[float] = []

        def tell(error: Exception, interval: float) -> None:
            tries.append(interval)
            cause = " ".join(str(error).split()) or type(error).__name__
            logger.warning(
                "waiting for the broker %s, next try in %.1f s: %s", self.as_uri(), interval, cause
            )

        # Random, so that the workers of many machines do not all come back at one moment.
        waits = {
            "interval_start": random.uniform(0.5, 1.5),  # noqa: S311 - nothing to guess here
            "interval_step": random.uniform(0.5, 1.5),  # noqa: S311
            "interval_max": random.uniform(MOST_SECONDS - 1, MOST_SECONDS),  # noqa: S311
        }
        kwargs = {"max_retries": None, **waits, **kwargs}
        super().ensure_connection(tell, **kwargs)
        if tries:
            logger.warning("the broker answers again")
        return self


class PatientAMQP(AMQP):
    """Celery's messaging, with the connection above."""

    Connection = PatientConnection
    BrokerConnection = PatientConnection
