"""The service's pages as their user meets them, in a real browser.

With TUMORFLOW_SCREENSHOTS set to a folder, pictures are kept there.
"""

import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from browser import Browser
from ct_files import encode_ct
from service_client import CLASSES, SIZE, draw_body

pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium")
PAGES = ("/", "/on-device")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("profile"), 1200, 1000)
    yield opened
    opened.close()


class Visit:
    """A tab on one of the pages, and what it asked the network for."""

    def __init__(self, browser, client, path):
        self.page = browser.page
        self.page.ask("Network.enable")
        self.page.ask("Emulation.clearDeviceMetricsOverride")
        self.page.ask("Page.enable")
        self.page.ask("Page.navigate", url="about:blank")
        self.page.told = []
        self.page.ask("Page.navigate", url=f"http://127.0.0.1:{client.port}{path}")
        self.page.wait_for("document.getElementById('model')?.textContent.includes('tiny')")

    def choose(self, *files):
        self.page.ask("DOM.enable")
        root = self.page.ask("DOM.getDocument")["root"]["nodeId"]
        node = self.page.ask("DOM.querySelector", nodeId=root, selector="#files")["nodeId"]
        self.page.ask("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def text(self, selector):
        return self.page.tell(f"document.querySelector({json.dumps(selector)}).textContent")

    def press(self, key, code):
        for kind in ("keyDown", "keyUp"):
            self.page.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def requests(self):
        return [
            (told["params"]["request"]["method"], told["params"]["request"]["url"])
            for told in self.page.told
            if told.get("method") == "Network.requestWillBeSent"
        ]

    def keep(self, name):
        if folder := os.environ.get("TUMORFLOW_SCREENSHOTS"):
            self.page.picture().save(Path(folder) / f"{name}.png")


@pytest.fixture
def visit(browser, service):
    return lambda path: Visit(browser, service, path)


@pytest.fixture
def study(tmp_path):
    """Six slices, of which the last file is of another kind."""
    files = []
    for number in range(6):
        file = tmp_path / f"DOE_JANE_{number}.dcm"
        changes = {"Modality": "MR"} if number == 5 else {}
        file.write_bytes(encode_ct(draw_body(35 * number - 60), number=number, **changes))
        files.append(file)
    return files


@pytest.mark.parametrize("path", PAGES)
def test_a_study_is_answered_and_shown(visit, study, path):
    seen = visit(path)
    assert "For research, not for clinical decisions." in seen.text(".notice")
    seen.choose(*study)
    seen.page.wait_for("document.getElementById('canvas').dataset.drawn?.startsWith('3/0')")
    assert seen.text("#class") in CLASSES
    assert seen.text("#status") == "5 slices answered."
    assert seen.text("#refused summary") == "1 not used"
    assert seen.page.tell("document.querySelectorAll('#patient-probabilities meter').length") == 3
    seen.keep(f"answered-{path.strip('/') or 'server'}")


@pytest.mark.parametrize("path", PAGES)
def test_the_keyboard_goes_through_slices_windows_and_overlay(visit, study, path):
    seen = visit(path)
    seen.choose(*study)
    seen.page.wait_for("document.getElementById('canvas').dataset.drawn?.startsWith('3/0')")
    seen.page.tell("document.getElementById('canvas').focus()")
    seen.press("ArrowRight", 39)
    seen.page.wait_for("document.getElementById('canvas').dataset.drawn?.startsWith('4/0')")
    assert seen.page.tell("document.getElementById('canvas').ariaLabel").startswith("Slice 4 of 5: ")
    seen.press("End", 35)
    seen.page.wait_for("document.getElementById('canvas').dataset.drawn?.startsWith('5/0')")
    pixels = (
        "JSON.stringify([...document.getElementById('canvas').getContext('2d').getImageData(0,0,32,32).data])"
    )
    lung = seen.page.tell(pixels)
    seen.page.tell("document.querySelector('input[name=window]').focus()")
    seen.press("ArrowDown", 40)
    seen.page.wait_for("document.getElementById('canvas').dataset.drawn?.startsWith('5/1')")
    assert seen.page.tell(pixels) != lung
    seen.page.tell("document.getElementById('overlay').click()")
    seen.page.wait_for("document.getElementById('canvas').dataset.drawn === '5/1/off'")
    plain = np.array(json.loads(seen.page.tell(pixels))).reshape(32, 32, 4)
    assert (plain[..., 0] == plain[..., 1]).all(), "without the overlay it is grey"
    seen.page.tell(
        "document.getElementById('overlay').click();"
        "const o = document.getElementById('opacity'); o.value = 100; o.dispatchEvent(new Event('input'))"
    )
    seen.page.wait_for("document.getElementById('canvas').dataset.drawn === '5/1/100'")
    covered = np.array(json.loads(seen.page.tell(pixels))).reshape(32, 32, 4)
    assert (covered[..., 0] != covered[..., 1]).any()


@pytest.mark.parametrize("path", PAGES)
def test_each_control_has_a_name_and_each_change_is_told(visit, study, path):
    seen = visit(path)
    seen.choose(*study)
    seen.page.wait_for("document.getElementById('canvas').dataset.drawn?.startsWith('3/0')")
    seen.page.ask("Accessibility.enable")
    nodes = seen.page.ask("Accessibility.getFullAXTree")["nodes"]
    controls = [
        node
        for node in nodes
        if not node.get("ignored")
        and node["role"]["value"] in ("slider", "radio", "checkbox", "button", "meter", "image", "combobox")
    ]
    assert len(controls) >= 10
    assert [node["role"]["value"] for node in controls if not node.get("name", {}).get("value")] == []
    assert seen.page.tell("document.getElementById('status').getAttribute('aria-live')") == "polite"
    assert seen.page.tell("document.activeElement.id") == "result"
    assert seen.page.tell("document.documentElement.lang") == "en"


@pytest.mark.parametrize("path", PAGES)
def test_a_phone_shows_it_without_scrolling_sideways(visit, study, path):
    seen = visit(path)
    seen.page.ask(
        "Emulation.setDeviceMetricsOverride", width=360, height=780, deviceScaleFactor=1, mobile=True
    )
    seen.choose(*study)
    seen.page.wait_for("document.getElementById('canvas').dataset.drawn?.startsWith('3/0')")
    assert seen.page.tell("document.documentElement.scrollWidth") <= 360
    seen.keep(f"phone-{path.strip('/') or 'server'}")


@pytest.mark.parametrize("path", PAGES)
def test_what_cannot_be_used_is_said(visit, tmp_path, path):
    seen = visit(path)
    (tmp_path / "notes.txt").write_text("no slice")
    seen.choose(tmp_path / "notes.txt")
    said = seen.page.wait_for("document.getElementById('problem').textContent")
    assert "DICOM" in said
    assert seen.page.tell("document.getElementById('result').hidden") is True


def test_the_device_answers_as_the_server_does_and_sends_nothing(visit, service, tmp_path):
    """Any size and orientation of pixels, so that both prepare them alike."""
    generator = np.random.default_rng(3)
    files, bodies = [], []
    for number, (rows, columns) in enumerate([(48, 48), (64, 64), (70, 50), (33, 90), (20, 20), (128, 96)]):
        stored = (generator.normal(1000, 300, (rows, columns)).clip(0, 4000)).astype(np.int16)
        stored[: rows // 2] += draw_body(number * 10)[0, 0]
        changes = {"RescaleSlope": "0.5"} if number == 2 else {}
        bodies.append(encode_ct(stored, number=number, **changes))
        files.append(tmp_path / f"DOE_JANE_{number}.dcm")
        files[-1].write_bytes(bodies[-1])
    expected = service.predict(*bodies).json
    asked_before = len(service.log)
    seen = visit("/on-device")
    seen.page.tell(
        "document.addEventListener('answered', (event) => {window.answer = JSON.stringify("
        "event.detail.slices.map((each) => ({...each, picture: null, overlay: null})));})"
    )
    loaded = len(seen.requests())
    seen.choose(*files)
    answered = json.loads(seen.page.wait_for("window.answer"))
    for one, other in zip(answered, expected["slices"], strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-3)
        assert one["feature_distance"] == pytest.approx(other["feature_distance"], rel=1e-2)
        assert [warned["rule"] for warned in one["warnings"]] == [
            warned["rule"] for warned in other["warnings"]
        ]
    seen.page.wait_for("document.getElementById('canvas').dataset.drawn")
    asked = seen.requests()
    assert [request for request in asked[loaded:] if not request[1].startswith(("blob:", "data:"))] == []
    assert {method for method, _ in asked} == {"GET"}
    assert all(url.startswith((f"http://127.0.0.1:{service.port}/", "blob:", "data:")) for _, url in asked)
    assert not [line for line in service.log[asked_before:] if "/predict" in line]


def convert_tensors(flatbuffer, io_type):
    """Returns the network in int8, of which input and output have a type."""
    from tumorflow.export.quantisation import convert_int8

    shades = [np.full((SIZE, SIZE, 3), 5 * number, np.uint8) for number in range(51)]
    return convert_int8(flatbuffer.network, shades, [], io_type)


def test_the_device_runs_a_model_that_takes_and_gives_8_bits(
    browser, serve, write_model, flatbuffer, study, tmp_path
):
    model = write_model(tmp_path / "uint8.tflite", convert_tensors(flatbuffer, "uint8"))
    client = serve(model)
    expected = client.predict(*(file.read_bytes() for file in study[:5])).json
    seen = Visit(browser, client, "/on-device")
    seen.page.tell(
        "document.addEventListener('answered', (event) => {window.answer = JSON.stringify("
        "event.detail.slices.map((each) => each.probabilities));})"
    )
    seen.choose(*study[:5])
    answered = json.loads(seen.page.wait_for("window.answer"))
    assert len({json.dumps(each) for each in answered}) > 1, "a constant answer would test nothing"
    for one, other in zip(answered, expected["slices"], strict=True):
        assert one == pytest.approx(other["probabilities"], abs=0.01), "two steps of 8 bits"


def test_the_device_says_that_it_has_no_int8(browser, serve, write_model, flatbuffer, tmp_path):
    client = serve(write_model(tmp_path / "int8.tflite", convert_tensors(flatbuffer, "int8")))
    browser.page.ask("Page.navigate", url=f"http://127.0.0.1:{client.port}/on-device")
    said = browser.page.wait_for("document.getElementById('problem')?.textContent")
    assert "this one has int8" in said


TILTED = ["1", "0", "0", "0", "0.866025", "-0.5"]
ODD = [
    {"Rows": 8},
    {"RecognizableVisualFeatures": "YES"},
    {"BurnedInAnnotation": "YES"},
    {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "PERFUSION"]},
    {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    {"ImageType": ["DERIVED", "SECONDARY", "MPR"]},
    {"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]},
    {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "SECONDARY"]},
    {"ConversionType": "WSD"},
    {"HighBit": 10},
    {"SOPInstanceUID": None},
    {"StudyInstanceUID": None},
    {"RescaleSlope": "100000"},
    {"RescaleSlope": None},
    {"RescaleType": "ED"},
    {"Modality": "MR"},
    {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"},
    {"SamplesPerPixel": 3},
    {"BitsAllocated": 32},
    {"ImageOrientationPatient": TILTED},
    {"ImageOrientationPatient": ["1", "0", "0", "0", "0", "-1"]},
    {"ImageOrientationPatient": None, "SliceLocation": "12.25"},
    {"PatientID": "", "SeriesInstanceUID": "1.2.3"},
    {"PatientID": "", "SeriesInstanceUID": "1.2.4"},
    {"IssuerOfPatientID": "B"},
]


def test_the_device_refuses_and_places_what_the_server_does(visit, service, tmp_path):
    bodies = [
        encode_ct(draw_body(number), number=number + 1, **changes) for number, changes in enumerate(ODD)
    ]
    broken = io.BytesIO()
    with zipfile.ZipFile(broken, "w") as archive:
        for number in (1, 2, 3):
            archive.writestr(f"{number}", encode_ct(draw_body(), number=100 + number))
    content = bytearray(broken.getvalue())
    second = content.find(b"PK\x03\x04", 10)
    content[second : second + 4] = b"PK\x03\x05"
    bodies.append(bytes(content))
    files = [tmp_path / f"{number}" for number in range(len(bodies))]
    for file, body in zip(files, bodies, strict=True):
        file.write_bytes(body)
    expected = service.predict(*bodies).json
    seen = visit("/on-device")
    seen.page.tell(
        "document.addEventListener('answered', ({detail}) => {window.answer = JSON.stringify({"
        "refused: detail.refused.map((each) => [each.file, each.rule]), "
        "slices: detail.slices.map((each) => [each.file, each.patient, each.position_mm]), "
        "warnings: detail.warnings.map((each) => each.rule)});})"
    )
    seen.choose(*files)
    answered = json.loads(seen.page.wait_for("window.answer"))
    assert answered["refused"] == [[each["file"], each["rule"]] for each in expected["refused"]]
    assert [each[:2] for each in answered["slices"]] == [
        [each["file"], each["patient"]] for each in expected["slices"]
    ]
    for one, other in zip(answered["slices"], expected["slices"], strict=True):
        assert one[2] == pytest.approx(other["position_mm"], abs=1e-3)
    assert answered["warnings"] == [each["rule"] for each in expected["warnings"]]


def test_the_page_asks_for_a_key_where_one_is_needed(browser, serve, write_model, study, tmp_path):
    from tumorflow.serving.settings import read_keys

    key = "0123456789abcdef0123456789"
    client = serve(write_model(tmp_path / "keyed.tflite"), keys=read_keys({"TUMORFLOW_API_KEYS": f"a:{key}"}))
    page = browser.page
    page.ask("Page.navigate", url=f"http://127.0.0.1:{client.port}/")
    page.wait_for("document.getElementById('keyed')?.hidden === false")
    page.tell("document.getElementById('key').focus()")
    page.ask("Input.insertText", text=key)
    page.tell("document.getElementById('key').dispatchEvent(new Event('change'))")
    page.wait_for("document.getElementById('model').textContent.includes('tiny')")
    assert page.tell("document.getElementById('problem').textContent") == ""
