"""The report as its reader sees it: opened in a real browser that can reach nothing."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tumorflow.evaluation.step import run
from tumorflow.params import EvaluateParams

pytestmark = [
    pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium"),
    # Keras 3.15 converts TensorFlow variables without the copy keyword that NumPy 2 asks for
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

BROWSER = (
    "chromium",
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory, inputs, make):
    folder = tmp_path_factory.mktemp("evaluation")
    registry = make.registry(tmp_path_factory.mktemp("registry") / "version", inputs)
    params = EvaluateParams(bootstrap_resamples=100)
    run(params, **inputs, evaluation=folder, champion="tiny/3", tracker=registry)
    return folder / "report.html"


def open_in_browser(report: Path, profile: Path, *options: str) -> str:
    done = subprocess.run(
        [*BROWSER, f"--user-data-dir={profile}", *options, report.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout


def test_every_picture_is_drawn(report, tmp_path):
    script = (
        "<script>window.onload=()=>{const all=[...document.images];document.title="
        "`pictures ${all.filter(i=>i.complete&&i.naturalWidth>50).length} of ${all.length}`;}</script>"
    )
    watched = tmp_path / "watched.html"
    watched.write_text(report.read_text().replace("</head>", f"{script}</head>"))
    dom = open_in_browser(watched, tmp_path / "profile", "--dump-dom")
    title = dom.partition("<title>")[2].partition("</title>")[0]
    drawn, _, wanted = title.removeprefix("pictures ").partition(" of ")
    assert drawn == wanted
    assert int(drawn) >= 3


@pytest.mark.parametrize("width_px", [1280, 390])
def test_the_page_is_not_wider_than_its_window(report, tmp_path, width_px):
    script = (
        "<script>window.onload=()=>{document.title="
        "`wide ${document.documentElement.scrollWidth} of ${window.innerWidth}`;}</script>"
    )
    framed = tmp_path / "framed.html"
    measured = tmp_path / "measured.html"
    measured.write_text(report.read_text().replace("</head>", f"{script}</head>"))
    # headless Chromium's own window is at least 500 px wide; a frame can be as narrow as a phone
    framed.write_text(
        f"<iframe id=f src=measured.html width={width_px} height=800 style='border:0'></iframe>"
        "<script>window.onload=()=>{document.title=f.contentDocument.title;}</script>"
    )
    dom = open_in_browser(framed, tmp_path / "profile", "--allow-file-access-from-files", "--dump-dom")
    title = dom.partition("<title>")[2].partition("</title>")[0]
    wide, _, window = title.removeprefix("wide ").partition(" of ")
    assert int(window) == width_px
    assert int(wide) <= int(window)
