"""Settings of the OpenAPI document (drf-spectacular)."""

from __future__ import annotations

from typing import Any

DESCRIPTION = """\
A front end posts datasets and submissions, datarun trains each submission fold by fold, and the
front end fetches predictions, times, memory use and logs. `docs/api.md` explains the API step by
step, with every rule that does not fit into a schema.

* **Accounts.** Each sees its own rows and what others share with it; everything else returns 404.
* **Encodings.** The format `zlib-file` is base64 of zlib of a file's bytes; `zlib-int64` and
  `zlib-float64` are base64 of zlib of numbers, little endian, in C order.
* **Refusals** have one shape, with stable codes for programs. Methods that a path does not support
  return 405.
* **Additions.** Responses may get new properties, and codes new values: ignore those that you do
  not know.
"""

SPECTACULAR_SETTINGS: dict[str, Any] = {
    "OAS_VERSION": "3.1.1",
    "TITLE": "datarun",
    "DESCRIPTION": DESCRIPTION,
    "VERSION": "0.1.0",
    "LICENSE": {"name": "BSD-3-Clause", "identifier": "BSD-3-Clause"},
    "TAGS": [
        {"name": "Datasets", "description": "Post, split, limit, pause and delete."},
        {"name": "Submissions", "description": "The code of participants."},
        {"name": "Folds", "description": "Post, follow, prioritise and cancel."},
        {"name": "Predictions", "description": "Fetch the results of folds."},
        {"name": "Shares", "description": "Who else may use a dataset, and how."},
        {"name": "Accounts", "description": "The account itself, its quotas and its tokens."},
        {"name": "Audit", "description": "Who did what, for operators."},
    ],
    "ENFORCE_NON_BLANK_FIELDS": True,
    "SERVE_INCLUDE_SCHEMA": False,
    # Whoever writes a client has no account yet.
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SCHEMA_PATH_PREFIX": "/runapp/",
    # In the order of the routes, which has the other spellings last.
    "SORT_OPERATIONS": False,
    "PATH_CONVERTER_OVERRIDES": {
        "id": {
            "type": "integer",
            "format": "int64",
            "minimum": 0,
            "maximum": 2**63 - 1,
            "description": "The server's id of a dataset; the client's own id of a fold.",
        },
        "part": {
            "type": "string",
            "enum": ["full_train", "test"],
            "description": "The part that was predicted.",
        },
    },
    "POSTPROCESSING_HOOKS": [
        "runapp.schema.bodies.refine_bodies",
        "runapp.schema.components.add_components",
    ],
    # Nothing is fetched from anywhere else.
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}
