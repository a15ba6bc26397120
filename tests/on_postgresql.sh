#!/usr/bin/env bash
# Run the integration tests on PostgreSQL: the same rules on the other database.
set -euo pipefail
cd "$(dirname "$0")/.."
# pytest makes a database of that name with "test_" before it, and drops it at the end.
server=${DATARUN_TEST_POSTGRES:-postgres://postgres@127.0.0.1:5432}
if ! .venv/bin/python -c 'import psycopg, sys; psycopg.connect(sys.argv[1], connect_timeout=3)' "${server%/}/postgres" 2>/dev/null; then
    echo "tests/on_postgresql.sh: no PostgreSQL answers at ${server##*@}; DATARUN_TEST_POSTGRES names another" >&2
    exit "${DATARUN_INSIST_ON_SERVICES:-0}"
fi
export DATABASE_URL="${server%/}/datarun_$$"
exec .venv/bin/python -m pytest tests/integration -m "not sqlite and not any_database" "$@"
