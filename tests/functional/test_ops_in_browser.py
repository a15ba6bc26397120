"""The operators' pages in a browser, of a service that runs folds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, StorageState, expect

from test_files.examples import IRIS
from tests.functional import browser as browsers
from tests.functional.account import Account
from tests.functional.browser import DARK, LIGHT, NARROW, OUTFITS, WIDE, Window
from tests.functional.conftest import Serve
from tests.functional.service import Service, wait_until
from tests.functional.test_restart import make_code

HOSTILE = """
import numpy as np


class Classifier:
    def fit(self, X, y):
        print("<script>alert(1)</script>")
        print("\\x1b[2J\\x1b[31mred\\x07")

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
"""
MIDNIGHT = datetime(2026, 1, 31, tzinfo=UTC)
# Ten minutes of a day.
N_BARS = 144
# As if the first chart's folds had reached the limit, in a part that is read again.
REACH_LIMIT = """
const place = document.querySelector("[data-chart]");
const data = JSON.parse(place.dataset.chart);
place.dataset.chart = JSON.stringify({ ...data, limit: data.edges[10] });
document.dispatchEvent(new CustomEvent("htmx:afterSwap", { detail: { elt: document.body } }));
"""
IS_FOLDS = "**/ops/folds/**"
MEASURE = "each => each.clientWidth"
AWAIT_ANSWER = """
window.read = new Promise(done => addEventListener("htmx:afterOnLoad", () => done()));
null
"""
PRINTED = "<script>alert(1)</script>"


@dataclass(frozen=True)
class Stage:
    """A service with a fold that was tested, and whoever looks at it."""

    service: Service
    operator: Account
    account: Account
    raw_data_id: int
    tested: int


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsers.running() as browser:
        yield browser


@pytest.fixture(scope="module")
def stage(browser: Browser, serve: Serve) -> Stage:
    service = serve("ops", {"DATARUN_SLOTS": "1"})
    account = service.make_account("ada")
    operator = service.make_account("olga")
    service.manage("createuser", "--superuser", "root", "root@example.org", operator.password)
    operator.username = "root"
    raw_data_id = account.post_example(IRIS)
    account.wait_for_split(raw_data_id)
    tested = account.post_code(raw_data_id, HOSTILE, train_is=range(60))
    assert account.wait_for_fold(tested)["state"] == "TESTED"
    return Stage(service, operator, account, raw_data_id, tested)


@pytest.fixture(scope="module")
def cookies(browser: Browser, stage: Stage) -> StorageState:
    """What a browser keeps in which the operator is signed in."""
    with browsers.opening(browser, stage.service.host_url) as window:
        sign_in(window, stage.operator)
        expect(window.page.get_by_role("heading", name="Overview")).to_be_visible()
        return window.page.context.storage_state()


@pytest.fixture
def window(browser: Browser, stage: Stage, cookies: StorageState) -> Iterator[Window]:
    """A window in which the operator is signed in; nothing may have been complained about."""
    with browsers.opening(browser, stage.service.host_url, cookies=cookies) as window:
        yield window
        assert window.complaints == []


def sign_in(window: Window, account: Account) -> None:
    window.page.goto("ops/")
    window.page.get_by_label("Name").fill(account.username)
    window.page.get_by_label("Password").fill(account.password)
    window.page.get_by_role("button", name="Sign in").click()


def open_fold(window: Window, fold: int) -> None:
    window.page.goto("ops/folds/")
    window.page.get_by_role("link", name=str(fold), exact=True).click()


def open_without_time(page: Page, path: str) -> list[str]:
    """Open a page, and stop its time; return what it asks for from then on, as it does."""
    page.clock.install(time=MIDNIGHT)
    page.goto(path)
    # From here on the page's time stands still, unless it is run.
    with page.expect_response(f"**/{path}"):
        page.clock.pause_at(MIDNIGHT + timedelta(hours=1))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    return asked


def find_box(window: Window, fold: int) -> Locator:
    return window.page.get_by_role("checkbox", name=f"Fold {fold} of ada")


def test_wrong_password_is_told_and_a_right_one_signs_in_and_out(
    browser: Browser, stage: Stage
) -> None:
    with browsers.opening(browser, stage.service.host_url) as window:
        wrong = Account("", stage.operator.username, "not it", stage.service.folder)
        sign_in(window, wrong)
        expect(window.page.get_by_role("alert")).to_contain_text("is wrong")

        sign_in(window, stage.operator)
        expect(window.page.get_by_role("heading", name="Overview")).to_be_visible()
        window.page.get_by_role("button", name="Sign out").click()

        expect(window.page.get_by_role("heading", name="Sign in")).to_be_visible()
        assert window.complaints == []


def test_account_without_rights_sees_no_data(browser: Browser, stage: Stage) -> None:
    with browsers.opening(browser, stage.service.host_url) as window:
        sign_in(window, stage.account)

        expect(window.page.get_by_role("heading", level=1)).to_contain_text("for operators")
        assert "iris" not in window.page.content()


def test_what_a_fold_has_printed_is_shown_and_does_nothing(window: Window, stage: Stage) -> None:
    open_fold(window, stage.tested)

    log = window.page.locator("pre")
    expect(log).to_contain_text(PRINTED)
    # Written out by the runner already; what is not, the page does (tests/integration).
    expect(log).to_contain_text(r"\x1b[2J\x1b[31mred\x07")


def test_list_is_filtered_and_nonsense_is_explained(window: Window, stage: Stage) -> None:
    page = window.page
    page.goto("ops/")
    page.get_by_role("link", name="Folds", exact=True).click()
    page.get_by_label("state").select_option("ERROR")
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_text("No folds match.")).to_be_visible()

    page.get_by_label("state").select_option("TESTED")
    page.get_by_role("button", name="Find").click()
    expect(find_box(window, stage.tested)).to_be_visible()

    page.get_by_label("older than").fill("very old")
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_text('"very old" is not a valid age')).to_be_visible()


def test_running_fold_is_followed_without_reloading_and_run_again(
    window: Window, stage: Stage
) -> None:
    page, account = window.page, stage.account
    fold = account.post_code(stage.raw_data_id, make_code(seconds=4), train_is=range(60))
    account.wait_until_running(fold)
    open_fold(window, fold)

    expect(page.get_by_role("main")).to_contain_text("running, for")
    expect(page.get_by_role("main")).to_contain_text("ended: TESTED")
    page.get_by_role("button", name="Run again").click()
    page.get_by_role("button", name="Run again").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Run again: 1 of 1 done")
    assert account.wait_for_fold(fold)["attempt"] == 2


def test_waiting_folds_are_cancelled_in_bulk_and_each_is_told(window: Window, stage: Stage) -> None:
    page, account = window.page, stage.account
    account.send("PATCH", f"rawdata/{stage.raw_data_id}/", {"paused": True})
    folds = [
        account.post_code(stage.raw_data_id, make_code(seconds=0.1), train_is=range(60))
        for _ in range(3)
    ]
    page.goto("ops/folds/?state=waiting")
    for fold in folds:
        find_box(window, fold).check()
    # Meanwhile its owner cancels one.
    account.send("DELETE", f"submissionfold/{folds[0]}/")

    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading", name="Cancel?")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Cancel: 2 of 3 done")
    expect(page.get_by_text("it has ended with cancelled")).to_have_count(1)
    assert {account.read_fold(fold)["error_code"] for fold in folds} == {"cancelled"}
    account.send("PATCH", f"rawdata/{stage.raw_data_id}/", {"paused": False})


def test_dataset_is_paused_and_resumed(window: Window, stage: Stage) -> None:
    page = window.page
    page.goto(f"ops/datasets/{stage.raw_data_id}/")

    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    assert stage.account.read_dataset(stage.raw_data_id)["paused"] is True
    page.get_by_role("button", name="Resume").click()

    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    assert stage.account.read_dataset(stage.raw_data_id)["paused"] is False


def test_charts_are_drawn_and_drawn_anew_with_what_has_ended_since(
    window: Window, stage: Stage
) -> None:
    page, account = window.page, stage.account
    page.goto(f"ops/datasets/{stage.raw_data_id}/")
    canvases = page.locator("canvas")
    expect(canvases).to_have_count(3)
    caption = page.locator("figcaption").first
    before = caption.inner_text()
    assert all(window.count_pixels(canvas, colour="run") for canvas in canvases.all())
    page.evaluate("document.querySelectorAll('canvas').forEach(each => each.id = 'old')")

    account.post_code(stage.raw_data_id, make_code(seconds=0.1), train_is=range(60))
    expect(caption).not_to_have_text(before)

    expect(page.locator("canvas#old")).to_have_count(0)
    expect(canvases).to_have_count(3)
    assert all(window.count_pixels(canvas, colour="run") for canvas in canvases.all())


def test_limit_is_drawn_where_it_lies_within_the_axis(window: Window, stage: Stage) -> None:
    window.page.goto(f"ops/datasets/{stage.raw_data_id}/")
    canvas = window.page.locator("canvas").first
    expect(canvas).to_be_visible()
    before = window.count_pixels(canvas, colour="bad")

    window.page.evaluate(REACH_LIMIT)

    assert before == 0
    assert window.count_pixels(canvas, colour="bad")


def test_chart_follows_the_scheme_and_the_window(window: Window, stage: Stage) -> None:
    page = window.page
    window.dress(size=WIDE, scheme=LIGHT)
    page.goto(f"ops/datasets/{stage.raw_data_id}/")
    canvas = page.locator("canvas").first
    expect(canvas).to_be_visible()
    light = window.count_pixels(canvas, colour="run")
    width = canvas.evaluate(MEASURE)
    # Not drawn anew for another reason.
    window.hide(is_hidden=True)

    window.dress(size=NARROW, scheme=DARK)

    assert light
    wait_until(lambda: canvas.evaluate(MEASURE) not in (0, width), what="it is as wide as it may")
    wait_until(lambda: window.count_pixels(canvas, colour="run"), what="it is dark")


def test_bar_that_is_pointed_at_is_told(window: Window, stage: Stage) -> None:
    page = window.page
    page.goto("ops/")
    plot = page.locator(".u-over")
    bar = plot.bounding_box()["width"] / N_BARS
    begins = json.loads(page.locator("[data-chart]").get_attribute("data-chart"))["at"]
    told = page.locator(".u-legend .u-value")

    # Near its end, and so nearer to where the next one begins.
    plot.hover(position={"x": 100.8 * bar, "y": 20})

    begun = datetime.fromtimestamp(begins[100], UTC)
    expect(told.first).to_have_text(f"{begun:%H:%M} to {begun + timedelta(minutes=10):%H:%M}")
    expect(told.nth(1)).to_have_text("0")
    page.evaluate("document.querySelector('canvas').id = 'old'")
    expect(page.locator("canvas#old")).to_have_count(0)
    expect(told.nth(1)).to_have_text("0")


def test_figures_stay_open_while_the_page_is_read_again(window: Window, stage: Stage) -> None:
    page = window.page
    page.goto("ops/")
    page.get_by_text("Figures").click()
    # What is in use is not read again.
    page.get_by_role("heading", level=1).click()
    page.evaluate("document.querySelector('canvas').id = 'old'")

    expect(page.locator("canvas#old")).to_have_count(0)

    expect(page.locator("#figures-ended")).to_have_attribute("open", "")


def test_tick_that_is_made_between_question_and_answer_stays(window: Window, stage: Stage) -> None:
    page = window.page
    page.goto("ops/folds/")
    box = find_box(window, stage.tested)
    page.evaluate(AWAIT_ANSWER)

    def tick(route: Route) -> None:
        box.check()
        route.continue_()

    page.route(IS_FOLDS, tick)
    page.evaluate("window.read")

    assert box.is_checked()


def test_page_tells_that_it_is_out_of_date_and_when_it_is_not_any_more(window: Window) -> None:
    page = window.page
    page.goto("ops/folds/")

    page.route(IS_FOLDS, lambda route: route.abort())
    expect(page.get_by_role("main")).to_contain_text("the server does not answer")
    page.unroute(IS_FOLDS)
    page.route(IS_FOLDS, lambda route: route.fulfill(status=403))
    expect(page.get_by_role("main")).to_contain_text("this account no longer has access")
    page.unroute(IS_FOLDS)

    expect(page.get_by_role("main")).not_to_contain_text("may be out of date")
    # Of the answers that it did not get.
    window.complaints.clear()


def test_list_that_was_empty_offers_deeds_with_its_first_fold(window: Window, stage: Stage) -> None:
    page, account = window.page, stage.account
    page.goto("ops/folds/?state=waiting")
    expect(page.get_by_text("No folds match.")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel")).to_be_hidden()

    account.send("PATCH", f"rawdata/{stage.raw_data_id}/", {"paused": True})
    fold = account.post_code(stage.raw_data_id, make_code(seconds=0.1), train_is=range(60))
    find_box(window, fold).check()
    page.get_by_role("button", name="Cancel").click()

    expect(page.get_by_role("heading", name="Cancel?")).to_be_visible()
    account.send("PATCH", f"rawdata/{stage.raw_data_id}/", {"paused": False})
    account.wait_for_fold(fold)


def test_region_is_scrolled_as_before_once_it_was_read_again(window: Window) -> None:
    page = window.page
    window.dress(size=(760, 900), scheme=LIGHT)
    page.goto("ops/folds/")
    page.evaluate("document.querySelector('.wide').scrollLeft = 100")
    page.evaluate("document.querySelector('.wide').id = 'old'")

    expect(page.locator("#old")).to_have_count(0)

    assert page.evaluate("document.querySelector('.wide').scrollLeft") == 100


def test_text_that_is_selected_is_not_taken_away(window: Window) -> None:
    page = window.page
    asked = open_without_time(page, "ops/folds/")

    page.locator("caption").select_text()
    page.clock.run_for(60_000)
    page.evaluate("getSelection().removeAllRanges()")
    with page.expect_response("**/ops/folds/"):
        page.clock.run_for(3_000)

    assert len(asked) == 1


def test_page_that_nobody_sees_asks_for_nothing(window: Window) -> None:
    page = window.page
    asked = open_without_time(page, "ops/")

    window.hide(is_hidden=True)
    page.clock.run_for(60_000)
    window.hide(is_hidden=False)
    with page.expect_response("**/ops/"):
        page.clock.run_for(3_000)

    # That of the last three seconds: none came before it.
    assert len(asked) == 1


def test_list_without_scripts_shows_nothing_that_does_nothing(
    browser: Browser, stage: Stage, cookies: StorageState
) -> None:
    context = browser.new_context(
        base_url=stage.service.host_url, storage_state=cookies, java_script_enabled=False
    )
    page = context.new_page()
    page.goto("ops/folds/")

    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    expect(page.locator(".tick-all")).to_be_hidden()
    context.close()


def test_pages_fit_the_window_and_keep_nobody_out(window: Window, stage: Stage) -> None:
    open_fold(window, stage.tested)
    fold_path = window.page.url
    for path in (
        "ops/sign-in/",
        "ops/",
        "ops/folds/",
        fold_path,
        "ops/datasets/",
        f"ops/datasets/{stage.raw_data_id}/",
        "ops/submissions/1/",
        "ops/submissions/1/files/classifier.py/",
        "ops/accounts/ada/",
    ):
        window.page.goto(path)
        window.page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
        for scheme, size in OUTFITS:
            window.dress(size=size, scheme=scheme)

            assert not window.is_wider_than_its_window(), (path, size)
            assert window.list_barriers() == [], (path, size, scheme)


def test_keyboard_reaches_the_content_at_once(window: Window) -> None:
    page = window.page
    page.goto("ops/folds/")

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")

    expect(page.get_by_role("main")).to_be_focused()


def test_all_that_fit_a_search_are_cancelled_by_keyboard(window: Window, stage: Stage) -> None:
    page, account = window.page, stage.account
    account.send("PATCH", f"rawdata/{stage.raw_data_id}/", {"paused": True})
    folds = [
        account.post_code(stage.raw_data_id, make_code(seconds=0.1), train_is=range(60))
        for _ in range(2)
    ]
    page.goto("ops/folds/?state=waiting&owner=ada")

    page.get_by_role("checkbox", name="all folds that match the search").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_contain_text("Searched for: state waiting, owner ada")
    expect(page.get_by_role("main")).to_contain_text("2 folds match")
    # Posted after the question was shown.
    later = account.post_code(stage.raw_data_id, make_code(seconds=0.1), train_is=range(60))
    assert not window.is_wider_than_its_window()
    assert window.list_barriers() == []
    page.get_by_role("button", name="Cancel").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Cancel: 2 done, 0 not done")
    assert window.list_barriers() == []
    assert {account.read_fold(fold)["error_code"] for fold in folds} == {"cancelled"}
    assert account.read_fold(later)["state"] == "TODO"
    account.send("PATCH", f"rawdata/{stage.raw_data_id}/", {"paused": False})
    account.wait_for_fold(later)
