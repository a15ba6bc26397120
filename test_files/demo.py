"""Show datarun at work: `python -m test_files.demo` from the project's folder.

The demo starts a server of its own, then is nothing but a client: it posts the example datasets and
their submissions over HTTP, waits for the folds and shows what came back.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

import numpy as np
import numpy.typing as npt
import requests
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from test_files import post_api
from test_files.demo_report import PostedFold, print_report
from test_files.demo_server import HOST, POLL_SECONDS, Deadline, DemoError, Server, serving
from test_files.examples import EXAMPLES, RANDOM_STATE, Example, list_submission_files

DEADLINE_SECONDS = 180.0
N_FOLDS = 5
URGENT_FOLD = N_FOLDS - 1  # it overtakes the others
FINISHED = ("TESTED", "ERROR")
NARROWEST_WIDTH = 100

FoldRows = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
FoldRow = dict[str, Any]


def main() -> int:
    """Run the demo; return the exit status, 0 only if every fold is TESTED."""
    console = Console(width=max(NARROWEST_WIDTH, Console().width), highlight=False)
    deadline = Deadline(DEADLINE_SECONDS)
    _prepare_process()
    try:
        with serving() as server:
            console.print(f"datarun answers at {server.host_url}")
            is_success = run(server, console, deadline)
    except KeyboardInterrupt:
        console.print("Interrupted.")
        return 130
    except DemoError as error:
        console.print(f"[bold red]The demo failed.[/] {escape(str(error))}")
        return 1
    return 0 if is_success else 1


def run(server: Server, console: Console, deadline: Deadline) -> bool:
    """Post everything, wait, report; return whether every fold is TESTED."""
    raw_data_ids = [_post_dataset(server, example) for example in EXAMPLES]
    console.print(f"{len(raw_data_ids)} datasets posted: {', '.join(e.name for e in EXAMPLES)}")
    _wait_until_ready(server, raw_data_ids, deadline)
    started = time.monotonic()
    posted = _post_submissions(server, raw_data_ids)
    _wait_until_finished(server, posted, console, deadline)
    seconds = time.monotonic() - started
    rows = _fetch_rows(server, posted)
    print_report(console, posted, rows)
    n_tested = [row["state"] for row in rows.values()].count("TESTED")
    style = "green" if n_tested == len(posted) else "bold red"
    console.print(f"[{style}]{n_tested} of {len(posted)} folds TESTED[/] in {seconds:.1f} s")
    return n_tested == len(posted)


def _prepare_process() -> None:
    # A proxy of the caller's knows nothing of this machine's loopback address.
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    os.environ["no_proxy"] = ",".join(filter(None, [known, HOST]))
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, _exit_on_signal)


def _exit_on_signal(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _post_dataset(server: Server, example: Example) -> int:
    """Post a dataset and ask for its split; return its id."""
    response = post_api.post_data(
        *server.credentials,
        example.name,
        example.target,
        example.elements,
        example.data_file,
        example.extra_files,
    )
    raw_data_id = int(_check(response)["id"])
    if example.held_out_test is None:
        _check(post_api.custom_post_split(*server.credentials, raw_data_id))
    else:
        _check(
            post_api.post_split(
                *server.credentials, example.held_out_test, raw_data_id, RANDOM_STATE
            )
        )
    return raw_data_id


def _wait_until_ready(server: Server, raw_data_ids: Sequence[int], deadline: Deadline) -> None:
    while True:
        datasets = _check(post_api.get_raw_data(*server.credentials))
        ours = [dataset for dataset in datasets if dataset["id"] in raw_data_ids]
        for dataset in ours:
            if dataset["state"] == "ERROR":
                raise DemoError(f"The split of {dataset['name']}: {dataset['log_messages']}")
        if all(dataset["state"] == "READY" for dataset in ours):
            return
        _pause(server)
        if deadline.has_passed:
            raise DemoError(f"The splits took more than {DEADLINE_SECONDS:.0f} s.")


def _post_submissions(server: Server, raw_data_ids: Sequence[int]) -> list[PostedFold]:
    """Post every submission of every example on each of its dataset's folds."""
    posted: list[PostedFold] = []
    submission_id = 0
    for example, raw_data_id in zip(EXAMPLES, raw_data_ids, strict=True):
        folds = _ask_for_folds(server, raw_data_id)
        for folder in example.submissions:
            submission_id += 1
            for number, rows in enumerate(folds):
                fold = PostedFold(
                    fold_id=len(posted) + 1,
                    example=example,
                    submission=folder.name,
                    number=number,
                    priority="H" if number == URGENT_FOLD else "L",
                )
                _post_fold(server, fold, submission_id, raw_data_id, rows)
                posted.append(fold)
    return posted


def _ask_for_folds(server: Server, raw_data_id: int) -> list[FoldRows]:
    response = requests.post(
        f"{server.host_url}runapp/rawdata/{raw_data_id}/folds/",
        auth=(server.username, server.password),
        json={"n_splits": N_FOLDS, "random_state": RANDOM_STATE},
        timeout=post_api.TIMEOUT_SECONDS,
    )
    return [
        (post_api.decode_indices(fold["train_is"]), post_api.decode_indices(fold["test_is"]))
        for fold in _check(response)
    ]


def _post_fold(
    server: Server, fold: PostedFold, submission_id: int, raw_data_id: int, rows: FoldRows
) -> None:
    files = list_submission_files(fold.example.folder / "submissions" / fold.submission)
    is_first = fold.number == 0
    response = post_api.post_submission_fold(
        *server.credentials,
        submission_id,
        fold.fold_id,
        *rows,
        priority=fold.priority,
        raw_data_id=raw_data_id if is_first else None,
        list_submission_files=files if is_first else None,
    )
    _check(response)


def _wait_until_finished(
    server: Server, posted: Sequence[PostedFold], console: Console, deadline: Deadline
) -> None:
    """Show the progress until all folds are finished or the time is over."""
    columns = TextColumn("Folds finished"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("folds", total=len(posted))
        while not deadline.has_passed:
            folds = _check(post_api.get_submission_fold_light(*server.credentials))
            n_finished = sum(fold["state"] in FINISHED for fold in folds)
            progress.update(task, completed=n_finished)
            if n_finished == len(posted):
                return
            _pause(server)


def _fetch_rows(server: Server, posted: Sequence[PostedFold]) -> dict[int, FoldRow]:
    """Fetch the predictions of finished folds, and the state of those that are not."""
    ids = [fold.fold_id for fold in posted]
    finished = _check(post_api.get_prediction_list(*server.credentials, ids))
    rows = {row["databoard_sf_id"]: row for row in finished}
    for fold_id in ids:
        if fold_id not in rows:
            detail = post_api.get_submission_fold_detail(*server.credentials, fold_id)
            rows[fold_id] = _check(detail)
    return rows


def _pause(server: Server) -> None:
    server.check_alive()
    time.sleep(POLL_SECONDS)


def _check(response: requests.Response) -> Any:
    """Return the answer; raise DemoError when the server refused."""
    if not response.ok:
        request = response.request
        raise DemoError(
            f"{request.method} {request.path_url}: {response.status_code} {response.text[:1000]}"
        )
    return response.json()


if __name__ == "__main__":
    sys.exit(main())
