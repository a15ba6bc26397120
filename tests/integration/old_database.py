"""Fills a database of an old schema, migrates it, and prints what has become of the rows.

A process of its own, as migrations of data work on the one database of the settings.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

import django
from django.apps.registry import Apps

OLD = [("runapp", "0002_worker_self_test")]
KEY = "0123456789abcdef" * 4
MOMENT = datetime(2026, 1, 2, tzinfo=UTC)


def main() -> None:
    django.setup()
    from django.test import override_settings

    # knox had a table of its own.
    with override_settings(MIGRATION_MODULES={}):
        fill(migrate(OLD))
    migrate(None)
    json.dump(read(), sys.stdout)


def migrate(targets: list[tuple[str, str]] | None) -> Apps:
    """Migrate to what is named, or to the latest; return the models of then."""
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    state = executor.migrate(_close_over(executor, targets))
    apps: Apps = state.apps
    return apps


def _close_over(executor: Any, targets: list[tuple[str, str]] | None) -> list[tuple[str, str]]:
    # The other applications' tables come from their own latest migrations.
    leaves: list[tuple[str, str]] = executor.loader.graph.leaf_nodes()
    if targets is None:
        return leaves
    return [*targets, *(leaf for leaf in leaves if leaf[0] != "runapp")]


def fill(apps: Apps) -> None:
    """Make two submissions: one with three folds, the second of them tested, and one with none."""
    # By its id: the models of old are made anew as the state goes on, and know no older ones.
    owner = {"owner_id": apps.get_model("auth", "User").objects.create(username="ada").pk}
    fill_tokens(apps)
    raw_data = apps.get_model("runapp", "RawData").objects.create(
        **owner, name="iris", files={"iris.csv": "00"}, state="READY"
    )
    submissions = [
        apps.get_model("runapp", "Submission").objects.create(
            **owner, raw_data=raw_data, databoard_s_id=number, files={}, hash_files="00"
        )
        for number in (1, 2)
    ]
    folds = [
        apps.get_model("runapp", "SubmissionFold").objects.create(
            **owner,
            submission=submissions[0],
            databoard_sf_id=number,
            train_is=b"\0\xff",
            test_is=b"",
            queued_at=MOMENT,
            **({"phase": "done", "state": "TESTED", "attempt": 2} if number == 12 else {}),
        )
        for number in (11, 12, 13)
    ]
    attempts = apps.get_model("runapp", "FoldAttempt").objects
    # A claim that was lost before its code had begun left an attempt without a start.
    attempts.create(fold_id=folds[1].pk, number=1, worker="w", outcome="lost", ended_at=MOMENT)
    attempts.create(
        fold_id=folds[1].pk,
        number=2,
        worker="w",
        outcome="tested",
        started_at=MOMENT,
        ended_at=MOMENT,
    )


def fill_tokens(apps: Apps) -> None:
    """Make an account with two tokens as knox does, of which one expires."""
    from knox.crypto import hash_token

    user_id = apps.get_model("auth", "User").objects.create(username="bob").pk
    for key, expiry in ((KEY, None), (KEY[::-1], MOMENT)):
        apps.get_model("knox", "AuthToken").objects.create(
            digest=hash_token(key), token_key=key[:15], user_id=user_id, expiry=expiry
        )


def read_tokens() -> dict[str, Any]:
    """Tell of the tokens, then delete their account, to which nothing else may refer."""
    from django.db import connection
    from knox.auth import TokenAuthentication

    from runapp.apps import make_clock
    from runapp.models import AccessToken

    tokens = list(AccessToken.objects.order_by("created"))
    account, _ = TokenAuthentication().authenticate_credentials(KEY.encode())
    make_clock("default")  # as the command does after it has migrated
    account.delete()
    return {
        "tokens": [[token.name, token.expiry == MOMENT, len(token.public_id)] for token in tokens],
        "holder": account.username,
        "is_old_table_left": "knox_authtoken" in connection.introspection.table_names(),
        "n_left": AccessToken.objects.count(),
    }


def read() -> dict[str, Any]:
    from runapp.models import FoldAttempt, Submission, SubmissionFold

    return {
        "folds": [
            {
                "number": fold.databoard_sf_id,
                "raw_data": fold.raw_data.name,
                "rank": fold.rank,
                "train_is": bytes(fold.train_is).hex(),
                "state": fold.state,
            }
            for fold in SubmissionFold.objects.order_by("pk")
        ],
        "n_posted": list(Submission.objects.order_by("pk").values_list("n_posted", flat=True)),
        "attempts": [
            [attempt.number, attempt.outcome, attempt.started_at == MOMENT, attempt.refused]
            for attempt in FoldAttempt.objects.order_by("number")
        ],
        **read_tokens(),
    }


if __name__ == "__main__":
    main()
