"""The report and its pages in a real browser, from disk and without a network."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from atu.reporting.figures import nothing, save_figure
from atu.reporting.front import front_page
from atu.reporting.hover import tell
from atu.reporting.pages import answers, answers_page, table_page
from atu.reporting.tables import HEADINGS

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (chromium-driver)")
# Snakemake's report carries the script of Tailwind CSS, which says so to the console; it fetches nothing.
ALLOWED = "cdn.tailwindcss.com should not be used in production"
LOCAL = ("file:", "data:", "blob:", "about:")
WIDE, LAPTOP, PHONE = 1600, 1280, 390  # pixels
SHOWN = ["Before", "ATU τ=0", "ATU τ=-0.5"]  # the rows of the run's table


class Browser:
    """A headless Chromium whose console and requests are looked at."""

    def __init__(self, folder: Path):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        # as root Chromium runs without its sandbox alone; containers may have a tiny /dev/shm
        for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage"):
            options.add_argument(f"--{flag}")
        options.add_argument(f"--user-data-dir={folder}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))

    def open(self, page: Path, width: int = WIDE) -> None:
        """On a screen of so many pixels; a window itself cannot be as narrow as a phone."""
        screen = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.driver.get(page.as_uri())

    def ask(self, script: str, *given):
        """What a script returns."""
        return self.driver.execute_script(f"return {script}", *given)

    def edges(self, element: WebElement) -> tuple[float, float]:
        """Where an element begins and ends, in pixels from the left of the screen."""
        box = self.ask("arguments[0].getBoundingClientRect()", element)
        return box["left"], box["right"]

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.until(lambda: self.all(selector))[0]

    def until(self, condition: Callable, *ignored: type[Exception]):
        return WebDriverWait(self.driver, 30, ignored_exceptions=ignored).until(lambda _: condition())

    def click(self, path: str) -> None:
        """On the first of these, once it can be clicked: it may still move, or be drawn anew."""
        self.until(lambda: self.driver.find_element(By.XPATH, path).click() or True, WebDriverException)

    def column(self, place: int) -> list[str]:
        """The texts of a column, as the script sees them at one moment: the table may be drawn anew meanwhile."""
        cells = f".dt-container #table tbody td:nth-child({place})"  # once DataTables has drawn it
        return self.ask(f"Array.from(document.querySelectorAll('{cells}'), (cell) => cell.innerText)")

    def check(self) -> None:
        """Nothing was complained about, and nothing was fetched from elsewhere."""
        said = [entry["message"] for entry in self.driver.get_log("browser")]
        assert [message for message in said if ALLOWED not in message] == []
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        urls = [event["request"]["url"] for event in asked]
        assert [url for url in urls if not url.startswith(LOCAL)] == []


@pytest.fixture(scope="module")
def started(tmp_path_factory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.driver.quit()


@pytest.fixture
def browser(started) -> Iterator[Browser]:
    """Every test ends with a look at the console and at what was requested."""
    started.driver.get("about:blank")
    for log in ("browser", "performance"):  # Chromium's own first page
        started.driver.get_log(log)
    yield started
    started.check()


def test_a_table_is_sorted_and_filtered(browser, tmp_path):
    table = pd.DataFrame({"Method": ["Before", "ATU", "GA"], "Forget QA ↓": ["51.2 ± 1.3", "9.0 ± 0.4", ""]})
    page = tmp_path / "main.html"
    page.write_text(table_page(table, "Main table", ["A note."]), encoding="utf-8")
    browser.open(page)
    browser.until(lambda: browser.column(1) == ["Before", "ATU", "GA"])
    header = "#table thead th:nth-child(2) .dt-column-title"
    browser.one(header).click()
    browser.until(lambda: browser.column(2) == ["", "9.0 ± 0.4", "51.2 ± 1.3"])
    browser.one(header).click()
    browser.until(lambda: browser.column(2) == ["51.2 ± 1.3", "9.0 ± 0.4", ""])
    browser.one(".dt-search input").send_keys("before")
    browser.until(lambda: browser.column(1) == ["Before"])


LONG_NAME = "Align-then-Unlearn-layer10 τ=0.25 (stage 3)"


@pytest.mark.parametrize("width", [LAPTOP, PHONE])
def test_a_wide_table_scrolls_in_its_own_box(browser, tmp_path, width):
    """The page is no wider than the screen, the last column can be reached, and the first stays where it is."""
    names = ["Targets", *HEADINGS.values()]
    table = pd.DataFrame({"Method": ["Before", LONG_NAME]} | {name: [100.0, 50.0] for name in names})
    page = tmp_path / "main.html"
    page.write_text(table_page(table, "Main table"), encoding="utf-8")
    browser.open(page, width)
    browser.until(lambda: browser.column(1) == ["Before", LONG_NAME])
    assert browser.ask("document.documentElement.scrollWidth") == width
    row = "#table tbody tr:last-child td"
    first, last = (browser.one(f"{row}:{place}-child") for place in ("first", "last"))
    assert (browser.edges(last)[1] <= width) == (width == LAPTOP)
    browser.ask("document.querySelector('.dt-layout-table > div').scrollLeft = 9999")
    assert browser.edges(last)[1] <= width
    assert 0 <= browser.edges(first)[0] < browser.edges(first)[1] < width / 2


def test_marks_can_be_read_without_colour(browser, tmp_path):
    table = pd.DataFrame({"Method": ["Before", "ATU"], "Forget QA ↓": [80.0, 20.0], "Gen ↑": [50.0, 25.0]})
    page = tmp_path / "main.html"
    page.write_text(table_page(table, "Main table"), encoding="utf-8")
    browser.open(page)
    for name, sign in (("better", "✓ "), ("worse", "! ")):
        found = browser.one(f"#table .{name}")
        assert browser.ask("getComputedStyle(arguments[0], '::before').content", found) == f'"{sign}"'
        assert browser.ask("getComputedStyle(arguments[0]).backgroundColor", found).startswith("rgba(")


def asked(count: int, answer: str) -> pd.DataFrame:
    """Predictions of questions that are all known, with one answer to each."""
    names = ["set", "id", "split", "type", "query", "answers", "prompt", "prediction", "score"]
    rows = [
        ("forget_qa", str(n), "test", "cloze", f"Who is {n}?", ["Ada"], f"A riddle. Who is {n}?", answer, 1.0)
        for n in range(count)
    ]
    return pd.DataFrame(rows, columns=names)


def test_answers_are_filtered_by_method(browser, tmp_path):
    evil = "<script>document.title = 'owned'</script><img src='https://example.org/x.png'>"
    before = asked(9, evil + "\nlong" * 50)
    table = answers(before, {(method, 0): before for method in ("atu", "ga", "npo")})
    page = tmp_path / "answers.html"
    page.write_text(answers_page(table, "Ada: answers"), encoding="utf-8")
    browser.open(page)
    browser.until(lambda: len(browser.column(1)) == 27)
    assert browser.driver.title == "Ada: answers"
    assert browser.column(1 + list(table.columns).index("Before"))[0].startswith(evil)  # shown, not run
    method = 1 + list(table.columns).index("Method")
    browser.one(f"#table thead th:nth-child({method}) button.dtcc-button_dropdown").click()
    choices = browser.until(lambda: browser.all(".dtcc-dropdown .dtcc-list button.dtcc-button"))
    next(choice for choice in choices if choice.text == "GA").click()
    browser.until(lambda: browser.column(method) == ["GA"] * 9)


@pytest.fixture
def answered(browser, tmp_path) -> Browser:
    """A laptop with a page of three answers: one as before, one forgotten, and one broken."""
    before = asked(3, "It is Ada, as I have told you so many times, and as everybody in this town knows by now.")
    after = before.assign(prediction=[before["prediction"][0], "Bo.", ""], score=[1.0, 0.0, 0.0])
    page, summary = tmp_path / "answers.html", pd.DataFrame({"Method": ["Before", "ATU"], "Forget QA ↓": [100.0, 33.3]})
    page.write_text(answers_page(answers(before, {("atu", 0): after}), "Ada", [], summary), encoding="utf-8")
    browser.open(page, LAPTOP)
    browser.until(lambda: len(browser.column(1)) == 3)
    return browser


def test_before_and_after_are_side_by_side_on_a_laptop(answered):
    assert answered.ask("document.documentElement.scrollWidth") == LAPTOP
    places = {name.text: answered.edges(name) for name in answered.all("#table thead .dt-column-title")}
    assert list(places)[4:6] == ["Before", "After"]
    assert all(places[name][1] <= LAPTOP for name in ("Question", "Before", "After", "Change", "Outcome"))
    assert answered.one(".plain .better").text == "33.3"


def test_answers_are_filtered_by_what_became_of_them(answered):
    """A click on another button takes its place, a second one takes it back."""
    clicks = (("changed (2)", 2), ("broken (1)", 1), ("forgotten (2)", 2), ("forgotten (2)", 3))
    for text, rows in clicks:
        answered.click(f"//button[normalize-space()='{text}']")
        answered.until(lambda rows=rows: len(answered.column(1)) == rows)
        pressed = answered.all(".dt-button-active, .dt-button[aria-pressed=true]")
        assert [button.text for button in pressed] == [text] * (rows < 3)


def test_a_click_on_a_question_shows_its_prompt(answered):
    """Which is not searched: the same words stand in every prompt."""
    prompt = answered.one("#table details pre")
    assert not prompt.is_displayed()
    answered.one("#table summary").click()
    answered.until(prompt.is_displayed)
    assert prompt.text == "A riddle. Who is 0?"
    search = answered.one(".dt-search input")
    search.send_keys("riddle")
    answered.until(lambda: answered.column(1) == ["No matching records found"])
    search.clear()
    search.send_keys("who is 2")
    answered.until(lambda: len(answered.column(1)) == 1)


@pytest.mark.parametrize("width", [LAPTOP, PHONE])
def test_the_first_page_opens_from_disk(browser, tmp_path, width):
    """With its figure inside it, and no wider than the screen."""
    figure, page = tmp_path / "tradeoff.svg", tmp_path / "index.html"
    drawn = nothing()
    tell(*drawn.axes[0].plot([0.5], [0.5], "o"), ["ATU τ=0 & others"])
    save_figure(drawn, [str(figure)])
    table = pd.DataFrame({"Method": ["Before", LONG_NAME]} | {name: [100.0, 50.0] for name in HEADINGS.values()})
    page.write_text(front_page("Results", ["A sentence."], table, [], figure.read_text("utf-8")), encoding="utf-8")
    figure.unlink()
    browser.open(page, width)
    assert browser.ask("document.querySelector('figure g:has(> use) > title').textContent") == "ATU τ=0 & others"
    left, right = browser.edges(browser.one("figure svg"))
    assert right - left > 300
    assert right <= width == browser.ask("document.documentElement.scrollWidth")
    browser.ask("document.querySelector('.box').scrollLeft = 9999")
    first, last = (browser.one(f".plain tr:last-child td:{place}-child") for place in ("first", "last"))
    assert 0 <= browser.edges(first)[0] < browser.edges(last)[1] <= width


def test_the_pages_of_a_run(browser, finished):
    results = finished.directory / "results"
    browser.open(results / "index.html")
    assert browser.one("h1").text == "Results: llm on tiny"
    assert [cell.text.partition(" †")[0] for cell in browser.all(".plain td:first-child")] == SHOWN
    browser.open(results / "tables/main.html")
    browser.until(lambda: browser.column(1) == SHOWN)
    browser.open(results / "answers/1_Ada.html")
    rows = len(browser.until(lambda: browser.column(1)))
    browser.one(".dt-search input").send_keys("neighbor_qa")
    browser.until(lambda: 0 < len(browser.column(1)) < rows)
    assert set(browser.column(1)) == {"neighbor_qa"}


def test_the_report(browser, finished):
    """Snakemake's own page opens, and shows the first page, the answers and the main table inside itself."""
    finished.run("--report", "results/report.html")
    pages = (
        ("Front page", "index.html", ".plain", "Before"),
        ("Answers", "1_Ada", "#table", "forget_qa"),  # below the means
        ("Tables", "main.html", "#table", "Before"),
    )
    for category, entry, table, text in pages:
        browser.open(finished.directory / "results/report.html")
        browser.driver.refresh()
        browser.click(f"//li[normalize-space()='{category}']")
        browser.click(f"//tr[td[contains(., '{entry}')]]//a")  # the first of its signs shows the page
        browser.driver.switch_to.frame(browser.one("iframe"))
        browser.until(lambda table=table, text=text: text in browser.one(f"{table} tbody").text)
        browser.driver.switch_to.default_content()
