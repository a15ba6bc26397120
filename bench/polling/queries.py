"""Counts the queries of requests; run as a process of its own.

`python -m bench.polling.queries` reads a JSON object from its standard input, `{"token": ...,
"requests": [[method, path, headers], ...]}`, asks the views without a server, and prints how many
queries each request took.
"""

from __future__ import annotations

import json
import os
import sys

import django
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext


def main() -> None:
    """Print the counts."""
    django.setup()
    asked = json.load(sys.stdin)
    client = Client(headers={"Authorization": f"Token {asked['token']}", "Host": "127.0.0.1"})
    client.get("/runapp/rawdata/")  # whatever is asked at the first connection
    counts = [count_queries(client, *one) for one in asked["requests"]]
    print(json.dumps(counts))


def count_queries(client: Client, method: str, path: str, headers: dict[str, str]) -> int:
    """Ask, read the whole answer, and return how many queries that took."""
    with CaptureQueriesContext(connection) as captured:
        response = client.generic(method, path, "{}", "application/json", headers=headers)
        assert response.status_code < 400, (path, response.status_code)
        # An answer that is written while it is read goes on asking.
        for _ in response:
            pass
    return len(captured)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "datarun.settings")
    main()
