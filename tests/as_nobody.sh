#!/usr/bin/env bash
# Run tests as an ordinary user without any privilege, as root started this:
#
#     tests/as_nobody.sh [arguments of pytest]
#
# Without a path among them it runs what is about the seal of a run.
#
# The user may enter neither the home of root nor wherever else a clone and an interpreter lie. So
# all of it happens in a mount namespace of its own, in which both are shown at places that anyone
# may enter; the machine itself is left as it is, but for the user.
set -euo pipefail

USER_NAME=datarun-nobody

fail() {
    echo "tests/as_nobody.sh: $1" >&2
    exit 1
}

if [ "${1:-}" != --inside ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "tests/as_nobody.sh: left out, as only root can give up all privileges" >&2
        exit "${DATARUN_INSIST_ON_SERVICES:-0}"
    fi
    if ! id "$USER_NAME" >/dev/null 2>&1; then
        useradd --system --no-create-home --shell /usr/sbin/nologin "$USER_NAME"
    fi
    exec unshare --mount --propagation private -- "$0" --inside "$@"
fi
shift

project=$(cd "$(dirname "$0")/.." && pwd -P)
python=$(readlink -f "$project/.venv/bin/python")
base=$("$project/.venv/bin/python" -c 'import os, sys; print(os.path.realpath(sys.base_prefix))')

# Show a folder under its own path, although a folder above it is closed to others: a file system
# of ours is put over the closed one, with nothing in it but the way to that folder.
reach() {
    local folder=$1 closed=$1 held
    while [ "$closed" != / ]; do
        if [ "$(($(stat -c 0%a "$closed") & 1))" = 0 ]; then
            held=$(mktemp -d /run/datarun-held.XXXXXX)
            mount --bind "$folder" "$held"
            mount -t tmpfs -o mode=755 none "$closed"
            mkdir -p "$folder"
            mount --move "$held" "$folder"
            rmdir "$held"
        fi
        closed=$(dirname "$closed")
    done
}

# The project is shown a second time, at a path without any closed folder. What it must not see
# there, the data of a server, is covered.
place=/mnt/datarun
mount -t tmpfs -o mode=755 none /mnt
mkdir "$place" /mnt/own
mount --bind "$project" "$place"
mount -o remount,bind,ro "$place"
for data in "$place/var" "$place/test_files/demo_home"; do
    if [ -d "$data" ]; then mount -t tmpfs -o mode=755 none "$data"; fi
done
reach "$base"
chown "$USER_NAME" /mnt/own
mkdir -m 700 /mnt/own/home /mnt/own/tmp
chown "$USER_NAME" /mnt/own/home /mnt/own/tmp

nobody() {
    # --init-groups and the rest: no group, no capability, now or by any program.
    env -i PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 HOME=/mnt/own/home \
        TMPDIR="${TMPDIR_OF_TESTS:-/mnt/own/tmp}" PYTHONDONTWRITEBYTECODE=1 \
        HYPOTHESIS_STORAGE_DIRECTORY=/mnt/own/tmp/hypothesis \
        setpriv --reuid "$USER_NAME" --regid "$USER_NAME" --clear-groups \
        --bounding-set=-all --inh-caps=-all --ambient-caps=-all --no-new-privs -- "$@"
}

cd "$place"
nobody .venv/bin/python -c 'import sys; sys.exit(0)' || fail "$python cannot be run by an ordinary user"
nobody unshare --user --map-root-user --mount true ||
    fail "an ordinary user may not make a user namespace on this host; these tests are for those"

if [[ " $*" != *" tests/"* ]]; then
    set -- "$@" tests/hostile \
        tests/unit/test_runner_{forgery,honesty,isolation,keeper,keeper_talk,limits,meter}.py \
        tests/unit/test_runner_{sandbox,sandbox_runs,selftest,supervisor,worker_end}.py
fi
nobody .venv/bin/python -m pytest -p no:cacheprovider "$@"
