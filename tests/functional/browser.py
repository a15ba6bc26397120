"""Debian's Chromium, driven by Playwright: what it shows, and what it complains about."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Dialog,
    Locator,
    Page,
    StorageState,
    expect,
    sync_playwright,
)

from tests.effort import miss

PROGRAM = "chromium"
WIDE, NARROW = (1280, 900), (390, 844)
Scheme = Literal["light", "dark"]
LIGHT: Scheme = "light"
DARK: Scheme = "dark"
PATIENCE_MILLISECONDS = 15_000
GRAVE = ("serious", "critical")
OUTFITS = tuple(itertools.product((LIGHT, DARK), (WIDE, NARROW)))
COUNT_COLOURS = """
canvas => {
  // Of a copy, as Chromium warns of pictures that are read again and again.
  const copy = new OffscreenCanvas(canvas.width, canvas.height);
  const brush = copy.getContext("2d", { willReadFrequently: true });
  brush.drawImage(canvas, 0, 0);
  const { data } = brush.getImageData(0, 0, canvas.width, canvas.height);
  const counts = {};
  for (let place = 0; place < data.length; place += 4) {
    const colour = [...data.slice(place, place + 4)].join();
    counts[colour] = (counts[colour] || 0) + 1;
  }
  return counts;
}
"""
READ_COLOUR = """
name => {
  const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const brush = new OffscreenCanvas(1, 1).getContext("2d");
  brush.fillStyle = text;
  brush.fillRect(0, 0, 1, 1);
  return [...brush.getImageData(0, 0, 1, 1).data].join();
}
"""


@dataclass
class Window:
    """A window of a browser, with what its pages complained about."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_MILLISECONDS)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", self._refuse)
        self.page.on("console", self._listen)

    def _refuse(self, dialog: Dialog) -> None:
        self.complaints.append("a dialog was opened")
        dialog.dismiss()

    def _listen(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def dress(self, *, size: tuple[int, int], scheme: Scheme) -> None:
        """Change the window's size, and whether it is dark."""
        width, height = size
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.emulate_media(color_scheme=scheme)

    def is_wider_than_its_window(self) -> bool:
        """Tell whether one has to scroll to the side."""
        script = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        return bool(self.page.evaluate(script))

    def hide(self, *, is_hidden: bool) -> None:
        """Have the page believe that nobody sees it, or that somebody does."""
        hidden = "true" if is_hidden else "false"
        self.page.evaluate(
            "Object.defineProperty(document, 'hidden', "
            f"{{ configurable: true, get: () => {hidden} }});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )

    def count_pixels(self, canvas: Locator, *, colour: str) -> int:
        """Return how many pixels of a picture have a colour that the style sheet names."""
        counts: dict[str, int] = canvas.evaluate(COUNT_COLOURS)
        return counts.get(self.page.evaluate(READ_COLOUR, f"--{colour}"), 0)

    def list_barriers(self) -> list[str]:
        """Return what keeps people out, as axe-core finds it."""
        found = Axe().run(self.page).response["violations"]
        return [
            f"{one['id']}: {[node['html'][:200] for node in one['nodes'][:3]]}"
            for one in found
            if one["impact"] in GRAVE
        ]


@contextmanager
def running() -> Iterator[Browser]:
    """Yield the browser; without one the test is skipped, or fails where that is insisted on."""
    program = shutil.which(PROGRAM)
    if program is None:
        miss(f"There is no {PROGRAM}.")
    expect.set_options(timeout=PATIENCE_MILLISECONDS)
    with sync_playwright() as playwright:
        # Root may not use Chromium's own sandbox; it sees nothing but our pages.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opening(
    browser: Browser, host_url: str, *, cookies: StorageState | None = None
) -> Iterator[Window]:
    """Yield a window with no cookies but those."""
    context = browser.new_context(base_url=host_url, storage_state=cookies)
    try:
        yield Window(context.new_page())
    finally:
        context.close()
