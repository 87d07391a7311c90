"""The pages of docs/streams.md in a real browser, from the API itself and through nginx."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from tests.e2e.site import HANDED_OUT, Site, program
from tests.system import eventually

pytestmark = [pytest.mark.timeout(90), pytest.mark.xdist_group("e2e-site")]

USUAL, LASTING = re.findall(
    r"^```js\n(.*?)^```", (HANDED_OUT.parents[1] / "docs" / "streams.md").read_text(), re.MULTILINE | re.DOTALL
)

# Nothing but the pages of the test: no first run, no updates, no calls home.
QUIET = ("--headless=new", "--no-first-run", "--disable-background-networking", "--disable-component-update")

# What a page writes down of every EventSource that it makes; `show` is what the examples call.
WITNESS = """
const taskId = arguments[0], page = window.page = {events: [], shown: [], breaks: 0, sources: []};
const KINDS = ["started", "plan", "step_started", "fallback", "step_completed", "step_failed", "memory", "paused",
               "result", "error", "complete"];
const show = (data) => page.shown.push(data);
const EventSource = class extends window.EventSource {
  constructor(url) {
    super(url);
    page.sources.push(this);
    for (const kind of KINDS)
      this.addEventListener(kind, (event) => {
        if (event.data) page.events.push([Number(event.lastEventId), kind]); else page.breaks += 1;
      });
  }
};
"""
STATE = "return {...page, sources: page.sources.map((source) => source.readyState)}"
CLOSED = 2
WAIT_SECONDS = 30.0


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = program("chromium", "chromium")
    driver = program("chromedriver", "chromium-driver")
    profile: Path = tmp_path_factory.mktemp("chromium")
    for argument in (*QUIET, f"--user-data-dir={profile}", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # as root, Chromium starts with no other
    with Chrome(options, ChromeService(driver)) as running:
        yield running


class Page:
    """A tab that follows a task as an example does."""

    def __init__(self, browser: Chrome, address: str) -> None:
        self._browser = browser
        browser.switch_to.new_window("tab")
        browser.get(address)
        self._tab = browser.current_window_handle

    def follow(self, task_id: str, example: str) -> None:
        self._browser.switch_to.window(self._tab)
        self._browser.execute_script(WITNESS + example, task_id)

    def state(self) -> dict[str, Any]:
        self._browser.switch_to.window(self._tab)
        found: dict[str, Any] = self._browser.execute_script(STATE)
        return found

    def wait(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The page's state, as soon as it is as wanted."""
        eventually(lambda: holds(self.state()), WAIT_SECONDS, every=0.02)
        return self.state()


@pytest.fixture
def pages(browser: Chrome, site: Site) -> list[Page]:
    """Pages of the API, and of nginx before it, which are different origins; one of them no page at all, but JSON."""
    return [Page(browser, f"{site.up.url}/api/mesh/docs"), Page(browser, f"{site.proxy.url}/api/mesh/health")]


def test_the_usual_example_runs_to_complete(site: Site, pages: list[Page]) -> None:
    site.sandbox.latency(0.2)
    task_id = site.up.client.submit(site.up.client.network())
    for page in pages:
        page.follow(task_id, USUAL)
    for page in pages:
        state = page.wait(lambda state: CLOSED in state["sources"])
        assert [number for number, _ in state["events"]] == list(range(1, len(state["events"]) + 1))
        assert state["events"][-1][1] == "complete"
        assert [data.get("status") for data in state["shown"]] == ["processing", None, "completed"]
        assert state["breaks"] == 0


def test_a_page_that_goes_on_survives_a_restart_without_gap_or_duplicate(site: Site, pages: list[Page]) -> None:
    site.sandbox.latency(0.8)
    task_id = site.up.client.submit(site.up.client.network())
    for page in pages:
        page.follow(task_id, LASTING)
        page.wait(lambda state: len(state["events"]) >= 3)
    with site.without_api():
        for page in pages:
            assert page.state()["events"][-1][1] != "complete", "it was to break in the middle"
            page.wait(lambda state: state["breaks"] > 1)  # it has come back in vain
    stored = site.up.rows("SELECT sequence, type FROM events WHERE task_id = :id ORDER BY sequence", id=task_id)
    for page in pages:
        state = page.wait(lambda state: state["events"][-1][1] == "complete")
        assert [tuple(event) for event in state["events"]] == [tuple(row) for row in stored]
        assert state["sources"] == [CLOSED], "the browser went on by itself, with the number that it saw last"
