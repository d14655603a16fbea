"""Folders of images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tumorflow.errors import SliceError, SourceError
from tumorflow.ingestion.images import read_grey, to_grey
from tumorflow.params import read_parameters
from tumorflow.slices import read_intensities

DATA = Path(__file__).parents[2].parent / "shared" / "data"
GREY = (np.arange(20 * 10, dtype=np.uint8) % 251).reshape(20, 10)


def save(path, pixels=GREY, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def test_images_become_grey_slices_without_metadata(tmp_path, ingest):
    text = PngInfo()
    text.add_text("Patient", "DOE^JANE")
    save(tmp_path / "in" / "Benign" / "DOE.png", pnginfo=text)
    save(tmp_path / "in" / "Benign" / "copy.png")
    save(tmp_path / "in" / "normal" / "rgb.bmp", np.dstack([GREY + 1] * 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    exif[0x9C9D] = "DOE^JANE".encode("utf-16-le")
    save(tmp_path / "in" / "normal" / "turned.png", exif=exif)
    (tmp_path / "in" / "normal" / "x.dcm").write_bytes(b"DOE^JANE")
    result = ingest(tmp_path / "in")
    assert result.summary["kind"] == "images"
    assert [line["rule"] for line in result.refused] == ["mixed_source"]
    copies = [row for row in result.rows if row["label"] == "benign"]
    base = f"image-{copies[0]['content_hash'][:16]}"
    assert [row["slice_id"] for row in copies] == [base, f"{base}-2"]
    np.testing.assert_array_equal(read_intensities(result.folder / copies[0]["path"]), GREY)
    assert {row["rows"] for row in result.rows if row["label"] == "normal"} == {20, 10}
    (row,) = [row for row in result.rows if row["rows"] == 10]
    turned = read_intensities(result.folder / row["path"])
    np.testing.assert_array_equal(turned, np.rot90(GREY, -1))
    assert row["intensity_unit"] == "display"
    assert (row["patient"], row["rescale_slope"], row["age_years"]) == ("", None, None)
    assert (row["intensity_min"], row["intensity_max"]) == (0, 199)
    assert b"DOE" not in b"".join(p.read_bytes() for p in result.folder.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("pixels", "rule"),
    [
        (np.dstack([GREY, GREY, GREY + 40]), "not_grey"),
        (GREY.astype(np.uint16) * 200, "not_8_bit"),
        (np.zeros((300, 300), np.uint8), "too_large"),
    ],
)
def test_images_that_cannot_be_used(tmp_path, pixels, rule):
    save(tmp_path / "a.png", pixels)
    with pytest.raises(SliceError) as error:
        read_grey(tmp_path / "a.png", max_pixels=1000)
    assert error.value.rule == rule


def test_several_pages_and_broken_files_are_refused(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.tif", save_all=True, append_images=[Image.fromarray(GREY)])
    save(tmp_path / "b.jpg")
    whole = (tmp_path / "b.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(whole[: len(whole) * 3 // 4])
    (tmp_path / "c.png").write_bytes(b"GIF89a no")
    rules = []
    for name in ("a.tif", "b.jpg", "c.png"):
        with pytest.raises(SliceError) as error:
            read_grey(tmp_path / name, max_pixels=1000)
        rules.append(error.value.rule)
    assert rules == ["multiple_pages", "truncated_pixels", "not_an_image"]


def test_channels_within_rounding_are_grey():
    pixels = np.array([[[10, 12, 11], [200, 200, 200]]], np.uint8)
    assert to_grey(pixels).tolist() == [[11, 200]]


def test_transparent_is_air(tmp_path):
    pixels = np.full((2, 2, 4), 200, np.uint8)
    pixels[:, 0, 3] = 0
    pixels[:, 1, 3] = 255
    save(tmp_path / "a.png", pixels)
    assert read_grey(tmp_path / "a.png", max_pixels=10).tolist() == [[0, 200], [0, 200]]


def test_mutated_images_end_as_slice_or_refusal(tmp_path):
    random = np.random.default_rng(3)
    for suffix in ("png", "jpg", "bmp", "tif"):
        save(tmp_path / f"whole.{suffix}")
        whole = (tmp_path / f"whole.{suffix}").read_bytes()
        for _ in range(60):
            content = bytearray(whole)
            for _ in range(random.integers(1, 5)):
                content[random.integers(0, len(content))] = random.integers(0, 256)
            path = tmp_path / f"mutated.{suffix}"
            path.write_bytes(content)
            try:
                assert read_grey(path, max_pixels=10_000).dtype == np.uint8
            except SliceError:
                continue


def test_images_without_any_class_are_refused_with_the_remedy(tmp_path, ingest):
    save(tmp_path / "in" / "Bengin cases" / "a.png")
    with pytest.raises(SourceError, match="iqoth_nccd"):
        ingest(tmp_path / "in")


@pytest.mark.skipif(not DATA.exists(), reason="shared data are not here")
def test_iqoth_nccd_goes_in_with_its_preset(ingest):
    section = read_parameters(None, presets=["iqoth_nccd"]).ingest
    rows = ingest(DATA / "iqoth_nccd", class_folders=dict(section.class_folders)).rows
    labels = [row["label"] for row in rows]
    assert {label: labels.count(label) for label in set(labels)} == {
        "benign": 93,
        "malignant": 440,
        "normal": 313,
    }
