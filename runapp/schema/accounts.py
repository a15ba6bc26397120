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
    "id": tell(TEXT, "Names the token; it is no secret."),
    "name": TEXT,
    "created_at": MOMENT,
    "expires_at": tell(allow_null(MOMENT), "Null for one that is good for ever."),
    "last_used_at": tell(allow_null(MOMENT), "To a minute; null when it was never used."),
}
_USE: dict[str, Schema] = {
    "used": COUNT,
    "left": tell(allow_null(COUNT), "Null when nothing is limited."),
}
_LIMIT: dict[str, Schema] = {
    "limit": tell(allow_null(COUNT), "Null when nothing is limited."),
    "resets_at": tell(allow_null(MOMENT), "When it begins anew; null for what does not."),
}

ACCOUNT_SCHEMAS: dict[str, Schema] = {
    "Share": _make(
        "What an account, or every member of a group, may do with a dataset.",
        id=ID,
        account=tell(allow_null(TEXT), "Its name; null for a group's."),
        group=tell(allow_null(TEXT), "Its name; null for an account's."),
        role={"type": "string", "enum": list(Share.Role.values)},
        created_at=MOMENT,
    ),
    "Token": _make("A token of the account.", **_TOKEN),
    "NewToken": _make(
        "A token that was made.", **_TOKEN, key=tell(TEXT, "The secret; it is not shown again.")
    ),
    "Quota": _make("A limit, and what is used of it.", **_LIMIT, **_USE),
    "DailySubmissions": _make(
        "A limit for each dataset, and what is used of it today.",
        **_LIMIT,
        datasets=list_of(_make("One dataset.", raw_data=ID, **_USE)),
    ),
    "Account": _make(
        "Who asks, and what is left of what the account may do.",
        name=TEXT,
        is_superuser=FLAG,
        is_operator=FLAG,
        quotas=_make(
            "Every quota there is.",
            folds_per_day=refer("schemas", "Quota"),
            submissions_per_day=refer("schemas", "DailySubmissions"),
            waiting_folds=refer("schemas", "Quota"),
            stored_bytes=refer("schemas", "Quota"),
        ),
    ),
}
