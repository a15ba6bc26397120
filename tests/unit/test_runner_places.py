"""Where things lie on the host and inside, and what a supervisor claims for its runs."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from runapp.runner import host
from runapp.runner.metering.mountinfo import unescape
from runapp.runner.sandbox import root_filesystem
from runapp.runner.sandbox.levels import Level, Seal
from runapp.runner.sandbox.mounts import Places, find_places, is_below

ROOT = Path(__file__).resolve().parents[2]


def make_places(**changes: object) -> Places:
    there = Places(
        runner="/srv/datarun/runapp/runner",
        base_prefix="/opt/python",
        base_executable="/opt/python/bin/python3.11",
        site_packages="/srv/env/lib/python3.11/site-packages",
        has_system_site=False,
        hidden=("/srv/datarun", "/srv/scratch"),
        inputs="/srv/datarun/var",
    )
    return replace(there, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "folder", "expected"),
    [
        ("/usr", "/usr", True),
        ("/usr/lib", "/usr", True),
        ("/usr2", "/usr", False),
        ("/us", "/usr", False),
        ("/", "/usr", False),
        ("/usr", "/", True),
        ("/opt/usr", "/usr", False),
    ],
)
def test_is_below_of_whole_names(path: str, folder: str, expected: bool) -> None:
    assert is_below(path, folder) is expected


def test_find_places_describes_this_interpreter(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)

    found = find_places(hidden=(tmp_path / "link",), inputs=tmp_path / "link" / "inputs")

    assert found.runner == str(ROOT / "runapp" / "runner")
    assert found.base_prefix == os.path.realpath(sys.base_prefix)
    assert Path(found.base_executable).is_relative_to(found.base_prefix)
    assert not os.path.islink(found.base_executable)
    assert found.hidden == (str(ROOT), str(tmp_path))
    assert found.inputs == str(tmp_path / "inputs")
    if sys.prefix != sys.base_prefix:
        assert found.site_packages is not None
        assert Path(found.site_packages).is_relative_to(os.path.realpath(sys.prefix))


def test_find_places_without_inputs_has_none() -> None:
    assert find_places(hidden=(), inputs=None).inputs is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("include-system-site-packages = true\n", True),
        ("home = /usr/bin\nInclude-System-Site-Packages=TRUE", True),
        ("include-system-site-packages = false\n", False),
        ("home = /usr/bin\n", False),
    ],
)
def test_system_packages_are_seen_if_the_environment_says_so(
    text: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyvenv.cfg").write_text(text)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))

    assert find_places(hidden=(), inputs=None).has_system_site is expected


def test_find_places_without_an_environment_has_no_packages_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)

    found = find_places(hidden=(), inputs=None)

    assert found.site_packages is None
    assert found.has_system_site is False
    assert found.executable == found.locate_base(found.base_executable)


@pytest.mark.parametrize(
    ("there", "executable"),
    [
        (make_places(), "/env/bin/python"),
        (make_places(site_packages=None), "/python/bin/python3.11"),
        (
            make_places(
                site_packages=None, base_prefix="/usr", base_executable="/usr/bin/python3.11"
            ),
            "/usr/bin/python3.11",
        ),
    ],
)
def test_executable_inside_is(there: Places, executable: str) -> None:
    assert there.executable == executable


@pytest.mark.parametrize("prefix", ["/usr", "/usr/local"])
def test_base_below_usr_is_shown_where_it_is(prefix: str) -> None:
    there = make_places(base_prefix=prefix)

    assert there.is_base_shown
    assert there.locate_base(f"{prefix}/bin/python3") == f"{prefix}/bin/python3"


def test_places_survive_json() -> None:
    there = make_places(inputs=None)

    assert Places.from_json(there.to_json()) == there


@pytest.mark.parametrize("level", Level)
def test_seal_survives_json(level: Level) -> None:
    seal = Seal(level, uid=60_600, landlock_abi=7, has_seccomp=True, readable=("/usr", "/a b/ü\n"))

    assert Seal.from_json(seal.to_json()) == seal
    assert isinstance(Seal.from_json(seal.to_json()).level, Level)


def test_levels_go_from_best_to_worst() -> None:
    assert list(Level) == [Level.ROOT, Level.USER, Level.LANDLOCK, Level.PROCESS]
    assert [level.has_namespaces for level in Level] == [True, True, False, False]


def test_what_is_shown_has_one_place_each() -> None:
    shown = dict(root_filesystem._list_shown(make_places()))

    assert len(shown) == len(list(root_filesystem._list_shown(make_places())))
    assert shown["usr"] == "/usr"
    assert shown["python"] == "/opt/python"
    assert shown["env/lib/python3.11/site-packages"] == "/srv/env/lib/python3.11/site-packages"
    assert shown["datarun/runapp/runner"] == "/srv/datarun/runapp/runner"
    assert not {"home", "root", "srv", "var", "proc", "sys", "run", "etc"} & shown.keys()


def test_base_that_is_shown_already_is_not_shown_twice() -> None:
    assert "python" not in dict(root_filesystem._list_shown(make_places(base_prefix="/usr")))


HIDDEN = {
    # The host's folder to hide, whether the packages lie in it, and what is masked inside.
    "elsewhere": ("/srv/scratch", []),
    "the project beside its environment": ("/srv/datarun", []),
    "below the system's own": ("/usr/lib/datarun", ["usr/lib/datarun"]),
    "below the packages": (
        "/srv/env/lib/python3.11/site-packages/datarun",
        ["env/lib/python3.11/site-packages/datarun"],
    ),
    "below the base interpreter": ("/opt/python/lib/data", ["python/lib/data"]),
    "above the packages": ("/srv/env", []),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_folder_is_masked_where_something_shown_contains_it(name: str) -> None:
    folder, masks = HIDDEN[name]

    assert list(root_filesystem._list_hidden(make_places(hidden=(folder,)))) == masks


def test_runner_is_never_masked() -> None:
    there = make_places(hidden=("/srv/datarun/runapp/runner", "/srv/datarun/runapp/runner/x"))

    assert list(root_filesystem._list_hidden(there)) == []


def test_mount_points_are_read_as_they_are_called() -> None:
    assert unescape(r"/a\040b\011c\012d\134e") == "/a b\tc\nd\\e"
    assert unescape(r"/a\134040b") == r"/a\040b"


def test_claimed_users_differ_until_they_are_released() -> None:
    first = host.claim_uid()
    second = host.claim_uid()
    first.release()

    third = host.claim_uid()

    second.release()
    third.release()
    assert first.number == third.number
    assert second.number != first.number
    assert {60_578 <= uid.number <= 61_183 for uid in (first, second)} == {True}


def test_claim_without_a_user_left_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_MOST_UIDS", 1)
    # One that nobody else has tried yet.
    monkeypatch.setattr(host, "_FIRST_UID", 4_000_000_000 + os.getpid())
    claimed = host.claim_uid()

    with pytest.raises(OSError, match="no user is left"):
        host.claim_uid()

    claimed.release()
    host.claim_uid().release()
