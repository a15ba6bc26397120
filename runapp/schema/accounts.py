"""The shapes of what is answered about accounts: shares, tokens and quotas."""

from __future__ import annotations

from runapp.models import Share
from runapp.schema.types import (
    COUNT,
    FLAG,
    ID,
    MOMENT,
    TEXT,
    Schema,
    allow_null,
    list_of,
    refer,
    tell,
)


def _make(description: str, **properties: Schema) -> Schema:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": list(properties),
    }


_TOKEN: dict[str, Schema] = {
    "id": tell(TEXT, "Identifies the token; it is not secret."),
    "name": TEXT,
    "created_at": MOMENT,
    "expires_at": tell(allow_null(MOMENT), "Null if it never expires."),
    "last_used_at": tell(allow_null(MOMENT), "Accurate to a minute; null if it was never used."),
}
_USE: dict[str, Schema] = {
    "used": COUNT,
    "left": tell(allow_null(COUNT), "Null if there is no limit."),
}
_LIMIT: dict[str, Schema] = {
    "limit": tell(allow_null(COUNT), "Null if there is no limit."),
    "resets_at": tell(allow_null(MOMENT), "When it resets; null for quotas that do not reset."),
}

ACCOUNT_SCHEMAS: dict[str, Schema] = {
    "Share": _make(
        "What an account, or every member of a group, may do with a dataset.",
        id=ID,
        account=tell(allow_null(TEXT), "The account's name; null for a group's share."),
        group=tell(allow_null(TEXT), "The group's name; null for an account's share."),
        role={"type": "string", "enum": list(Share.Role.values)},
        created_at=MOMENT,
    ),
    "Token": _make("A token of the account.", **_TOKEN),
    "NewToken": _make(
        "A token that was just created.",
        **_TOKEN,
        key=tell(TEXT, "The secret key; it is not shown again."),
    ),
    "Quota": _make("A limit and how much of it is used.", **_LIMIT, **_USE),
    "DailySubmissions": _make(
        "A limit for each dataset and how much of it is used today.",
        **_LIMIT,
        datasets=list_of(_make("One dataset.", raw_data=ID, **_USE)),
    ),
    "Account": _make(
        "The account and what is left of its quotas.",
        name=TEXT,
        is_superuser=FLAG,
        is_operator=FLAG,
        quotas=_make(
            "All quotas.",
            folds_per_day=refer("schemas", "Quota"),
            submissions_per_day=refer("schemas", "DailySubmissions"),
            waiting_folds=refer("schemas", "Quota"),
            stored_bytes=refer("schemas", "Quota"),
        ),
    ),
}
