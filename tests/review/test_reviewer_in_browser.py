"""The reviewer's way in a real browser: the page, the report, the approval; and what an engineer meets there.

With TUMORFLOW_SCREENSHOTS set, the pictures of docs/review.md are taken anew, of the sample cohort's model.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from browser import Browser, Page
from PIL import Image
from servers import Registry, password_of

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "review"
SIZE_PX = (1200, 1300)
LARGEST_BYTES = 150_000
NAMES = ("page", "report", "approved", "compared", "refused")

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium"),
]


class AccountBrowser(Browser):
    """Chromium, as one account."""

    def __init__(self, profile: Path, url: str, who: str) -> None:
        super().__init__(profile, *SIZE_PX)
        self.url = url
        # the browser keeps the account for this server, as after its own dialogue
        signed_in = url.replace("//", f"//{who}:{password_of(who)}@")
        self.page.ask("Page.navigate", url=signed_in)
        self.page.wait_for("document.title === 'MLflow'")

    def open_version(self, name: str, number: str) -> Page:
        """Returns the page of a version, without MLflow's assistant."""
        self.page.ask("Page.navigate", url=f"{self.url}/?{time.monotonic()}#/models/{name}/versions/{number}")
        self.page.wait_for_text("Read the report")
        self.page.wait_for(
            "[...document.images].some(i => i.src.includes('get-artifact') && i.naturalWidth > 0)"
        )
        close = "[...document.querySelectorAll('button')].find(b => b.ariaLabel === 'Close')?.click()"
        self.page.tell(close)
        time.sleep(1)
        return self.page


@pytest.fixture(scope="module")
def version(registry, tiny_place, tmp_path_factory) -> SimpleNamespace:
    """A version that the whole pipeline registered with the server, as its service account."""
    place = tmp_path_factory.mktemp("place") / "work"
    if os.environ.get("TUMORFLOW_SCREENSHOTS"):  # the sample cohort, whose figures are worth a look
        place.mkdir()
        (place / "source").symlink_to(ROOT / "data")
    else:
        shutil.copytree(tiny_place, place)
    run_pipeline(registry, place)
    return SimpleNamespace(model="tumorflow-ct", number="1", place=place)


def run_pipeline(registry: Registry, place: Path, *settings: str) -> None:
    """Runs the whole pipeline against the server; what it registers may be rejected by the gate."""
    account = {
        "MLFLOW_TRACKING_URI": registry.url,
        "MLFLOW_TRACKING_USERNAME": "pipeline",
        "MLFLOW_TRACKING_PASSWORD": password_of("pipeline"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tumorflow", "run", "--source", "source", *settings],
        cwd=place,
        env={**os.environ, **account},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 3), done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture
def as_account(registry, version, tmp_path) -> Iterator[Callable[[str], AccountBrowser]]:
    """Opens a browser as an account."""
    opened: list[AccountBrowser] = []

    def open_browser(who: str) -> AccountBrowser:
        opened.append(AccountBrowser(tmp_path / who, registry.url, who))
        return opened[-1]

    yield open_browser
    for browser in opened:
        browser.close()


def keep(page: Page, name: str) -> None:
    """Takes a picture for the documentation, where that is asked for."""
    if os.environ.get("TUMORFLOW_SCREENSHOTS"):
        PICTURES.mkdir(exist_ok=True)
        page.picture().quantize(96).save(PICTURES / f"{name}.png", optimize=True)


def add_tag(page: Page, key: str, value: str) -> None:
    """Adds a tag in the form of the page."""
    page.type_into("tags-form-input-name", key)
    page.type_into("tags-form-input-value", value)
    page.tell("document.querySelector('[data-testid=add-tag-button]').click()")


def test_an_engineer_is_refused_and_told_the_rule(registry, version, as_account):
    page = as_account("ann").open_version(version.model, version.number)
    add_tag(page, "review.approve", "mine is the best")
    page.wait_for_text("reviewer_decides")
    page.tell("document.querySelector('[data-testid=add-tag-button]').scrollIntoView({block: 'center'})")
    keep(page, "refused")
    assert registry.champion(version.model) == ""
    assert "review.approve" not in registry.tags(version)


def test_a_reviewer_reads_the_page_and_the_report_and_approves(registry, version, as_account):
    browser = as_account("rita")
    page = browser.open_version(version.model, version.number)
    for text in (
        "Accepted by the gate",
        "Macro-F1",
        "Champion: this version was compared with none",
        "Made from",
        "To decide:",
    ):
        page.wait_for_text(text)
    keep(page, "page")

    page.tell("[...document.links].find(link => link.textContent === 'Read the report').click()")
    opened = browser.find_page("report.html")
    opened.wait_for("!!document.querySelector('iframe')")
    report = browser.find_page("blob:")
    report.wait_for_text("Evaluation of a CT tumour classifier")
    report.wait_for("document.images.length > 0 && [...document.images].every(i => i.naturalWidth > 0)")
    keep(opened, "report")

    add_tag(page, "review.approve", "Every class is recalled.")
    deadline = time.monotonic() + 60
    while not registry.champion(version.model) and time.monotonic() < deadline:
        time.sleep(0.2)
    page = browser.open_version(version.model, version.number)
    page.wait_for_text("champion")
    page.wait_for_text("Every class is recalled.")
    fold = (
        "[...document.querySelectorAll('[role=button]')].find(b => b.innerText.match(/^Description/)).click()"
    )
    page.tell(fold)
    time.sleep(1)
    keep(page, "approved")
    assert registry.champion(version.model) == "1"
    last = registry.audit(version.model)[-1]
    assert (last["action"], last["actor"], last["reason"]) == ("approved", "rita", "Every class is recalled.")


def test_the_next_version_is_shown_beside_the_champion(registry, version, as_account):
    if not registry.champion(version.model):
        assert registry.approve("rita", SimpleNamespace(model=version.model, number="1")).status_code == 200
    run_pipeline(registry, version.place, "--set", "train.epochs=3")
    page = as_account("vic").open_version(version.model, "2")
    page.wait_for_text("Against the champion tumorflow-ct/1")
    rows = (
        "[...document.querySelectorAll('tr')].map(row => [...row.cells].map(cell => cell.innerText.trim()))"
    )
    told = {row[0]: row[1:] for row in page.tell(rows) if len(row) == 4}
    assert told["Metric"] == ["This version", "Champion", "Difference (interval)"]
    mine, champions, difference = told["Macro-F1"]
    assert float(difference.split()[0]) == pytest.approx(float(mine) - float(champions), abs=2e-3)
    keep(page, "compared")


@pytest.mark.parametrize("name", NAMES)
def test_the_guide_shows_this_way_in_small_pictures(name):
    picture = PICTURES / f"{name}.png"
    assert f"review/{name}.png" in (ROOT / "docs" / "review.md").read_text()
    assert picture.stat().st_size < LARGEST_BYTES
    with Image.open(picture) as opened:
        assert (opened.format, opened.width) == ("PNG", SIZE_PX[0])
