"""Files that are broken, hostile or not what they claim."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from tumorflow.errors import SliceError
from tumorflow.ingestion import dicom, pixels
from tumorflow.ingestion.pixels import measure_rle_segment, parse_codestream_size

MUTATIONS = 200


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_mutated_bytes_end_as_slice_or_refusal_and_never_leak(tmp_path, ct, ingest, capfd, syntax):
    dataset = ct.build(np.arange(64 * 64, dtype=np.int16).reshape(64, 64))
    if syntax.is_encapsulated:
        dataset.compress(syntax, generate_instance_uid=False)
    encoded = io.BytesIO()
    dataset.save_as(encoded, enforce_file_format=True)
    whole = encoded.getvalue()
    header = whole.index(b"\xe0\x7f\x10\x00")
    random = np.random.default_rng(5)
    source = tmp_path / "in"
    source.mkdir()
    for number in range(MUTATIONS):
        content = bytearray(whole)
        changed = range(header) if number % 2 else range(header, len(whole))
        for place in random.choice(changed, random.integers(1, 6)):
            content[place] = random.integers(0, 256)
        if number % 4 == 0:
            del content[random.integers(100, len(content)) :]
        (source / f"{number:03d}").write_bytes(content)
    (source / "whole").write_bytes(ct.encode(number=2))
    result = ingest(source)
    assert len(result.rows) + len(result.refused) == MUTATIONS + 1
    assert result.rows
    written = b"".join(p.name.encode() + p.read_bytes() for p in result.folder.rglob("*") if p.is_file())
    output = capfd.readouterr()
    assert output.err == ""
    assert [word for word in ct.identifiers if word in written + output.out.encode()] == []


def test_odd_entries_of_a_folder(tmp_path, ct, ingest):
    source = tmp_path / "in"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "loop").symlink_to(source)
    (source / "deep" / "gone").symlink_to(source / "nowhere")
    (source / "empty.dcm").touch()
    os.mkfifo(source / "pipe")
    (source / "good").write_bytes(ct.encode())
    (source / "DICOMDIR").write_bytes(b"x")
    (source / os.fsdecode(b"\xff\xfe.dcm")).write_bytes(b"not DICOM")
    result = ingest(source)
    assert len(result.rows) == 1
    assert sorted(line["rule"] for line in result.refused) == [
        "empty_file",
        "not_a_file",
        "not_dicom",
        "unreadable",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path, ct, ingest):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(ct.encode(number=ord(name)))
    (tmp_path / "b").chmod(0)
    assert [line["rule"] for line in ingest(tmp_path).refused] == ["unreadable"]


def test_a_file_without_preamble_is_read_if_it_begins_as_a_data_set(tmp_path, ct, ingest):
    source = tmp_path / "in"
    source.mkdir()
    whole = ct.encode()
    (source / "no preamble").write_bytes(whole[132:])
    dataset_begins = whole.index(b"\x08\x00\x08\x00CS")
    (source / "no meta").write_bytes(ct.encode(number=2)[dataset_begins:])
    (source / "text").write_text("hello there, this is a letter")
    result = ingest(source)
    assert len(result.rows) == 2
    assert [line["rule"] for line in result.refused] == ["not_dicom"]


@pytest.mark.parametrize("preamble", [True, False])
def test_a_deflated_bomb_is_refused_before_it_is_inflated(tmp_path, ct, monkeypatch, preamble):
    monkeypatch.setattr(dicom, "MAX_INFLATED_BYTES", 2**20)
    dataset = ct.build()
    whole = ct.encode()
    begin = whole.index(b"\x08\x00\x08\x00CS")
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = deflater.compress(whole[begin:] + bytes(2**24)) + deflater.flush()
    dataset.file_meta.TransferSyntaxUID = dicom.DEFLATED
    path = tmp_path / "bomb"
    dataset.save_as(path, enforce_file_format=True)
    head = path.read_bytes()
    head = head[: 144 + int.from_bytes(head[140:144], "little")]
    path.write_bytes((head if preamble else head[132:]) + bomb)
    with pytest.raises(SliceError, match="inflates") as error:
        dicom.CTFile(path, path.stat().st_size, max_pixels=2**24)
    assert error.value.rule == "too_large"


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_what_stands_behind_the_pixels_does_not_go_before_what_was_checked(tmp_path, ct, syntax):
    dataset = ct.build(np.arange(64 * 64, dtype=np.int16).reshape(64, 64))
    dataset.file_meta.TransferSyntaxUID = syntax
    path = tmp_path / "ct"
    dataset.save_as(path, enforce_file_format=True)
    again = struct.pack("<HH2sHHHH2sHH", 0x28, 0x10, b"US", 2, 32, 0x28, 0x11, b"US", 2, 32)
    if syntax.is_deflated:
        head = path.read_bytes()[: 144 + int.from_bytes(path.read_bytes()[140:144], "little")]
        inflated = zlib.decompress(path.read_bytes()[len(head) :], -zlib.MAX_WBITS)
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        path.write_bytes(head + deflater.compress(inflated + again) + deflater.flush())
    else:
        path.write_bytes(path.read_bytes() + again)
    slice_ = dicom.CTFile(path, path.stat().st_size, max_pixels=2**24).slice(0)
    assert slice_.hounsfield.shape == (64, 64)


def test_pixels_whose_length_reads_like_a_vr_are_pixels(tmp_path, ct):
    size = 102
    stored = np.arange(size * size, dtype=np.int16).reshape(size, size)
    assert (2 * size * size).to_bytes(4, "little")[:2] == b"HQ"
    dataset = ct.build(stored)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    path = tmp_path / "ct"
    dataset.save_as(path, enforce_file_format=True)
    read = dicom.CTFile(path, path.stat().st_size, max_pixels=2**24).slice(0).hounsfield
    assert (read == stored - 1024).all()


def test_an_rle_segment_is_measured_as_it_unpacks():
    # two bytes as they are, then one four times, then nothing
    assert measure_rle_segment(b"\x01ab\xfdc\x80", limit=100) == 6
    assert measure_rle_segment(b"\x81a" * 1000, limit=500) == 512, "no more is measured than needed"


def test_rle_that_unpacks_to_far_more_than_its_pixels_is_refused(tmp_path, ct, monkeypatch):
    dataset = ct.build(np.zeros((16, 16), np.int16))
    segment = b"\x81\0" * 1000
    frame = struct.pack("<16L", 2, 64, 64 + len(segment), *[0] * 13) + segment * 2
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = RLELossless
    path = tmp_path / "bomb"
    dataset.save_as(path, enforce_file_format=True)
    monkeypatch.setattr(pixels, "_decode", None)  # is not reached
    with pytest.raises(SliceError, match="unpacks to more") as error:
        dicom.CTFile(path, path.stat().st_size, max_pixels=2**24).slice(0)
    assert error.value.rule == "conflicting_size"


def test_sizes_that_codestreams_announce():
    jpeg = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc3\x00\x0b\x10\x02\x00\x01\x00\x01\x01\x11\x00"
    assert parse_codestream_size(jpeg) == (512, 256, 1)
    sizes = b"".join(value.to_bytes(4, "big") for value in (300, 200, 100, 50, 1, 1, 0, 0))
    j2k = b"\xff\x4f\xff\x51\x00\x29\x00\x00" + sizes + b"\x00\x03"
    assert parse_codestream_size(j2k) == (150, 200, 3)
    assert parse_codestream_size(b"\xff\xd8\xff\xda\x00\x02") is None
    comment = b"\xff\xfe" + (len(j2k) + 2).to_bytes(2, "big") + j2k
    assert parse_codestream_size(jpeg[:2] + b"\xff\x01\xff\xd0" + comment + jpeg[2:]) == (512, 256, 1)
    boxes = b"\0\0\0\x0cjP  \r\n\x87\n" + (8 + len(j2k)).to_bytes(4, "big") + b"free" + j2k
    assert parse_codestream_size(boxes) is None, "what is in another box is no codestream"
    assert parse_codestream_size(boxes + b"\0\0\0\0jp2c" + j2k.replace(b"\x01\x2c", b"\x02\x2c")) == (
        150,
        456,
        3,
    )
    assert parse_codestream_size(b"anything") is None


def test_a_cut_off_codestream_is_refused(tmp_path, ct, ingest):
    for number in (1, 2):
        dataset = ct.build(np.arange(64 * 64, dtype=np.int16).reshape(64, 64), number=number)
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
        if number == 2:
            stream = generate_frames(dataset.PixelData, number_of_frames=1)
            dataset.PixelData = encapsulate([next(stream)[:-40]])
        dataset.save_as(tmp_path / f"{number}", enforce_file_format=True)
    result = ingest(tmp_path)
    assert len(result.rows) == 1
    assert [line["rule"] for line in result.refused] == ["truncated_pixels"]


def test_an_unreadable_header_value_is_unknown_and_no_error(tmp_path, ct, ingest):
    (tmp_path / "a").write_bytes(ct.encode().replace(b"2.5 ", b"2x5 ").replace(b"074Y", b"old!"))
    (row,) = ingest(tmp_path).rows
    assert row["slice_thickness_mm"] is None
    assert row["age_years"] == 74  # from birth date and study date


def test_hidden_folders_are_left_out(tmp_path: Path, ct, ingest):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "a").write_bytes(ct.encode())
    (tmp_path / "b").write_bytes(ct.encode(number=2))
    assert ingest(tmp_path).summary["files"] == 1


def test_an_element_of_no_known_kind_in_the_file_meta_is_refused(ingest, ct, tmp_path):
    """Found by fuzzing: the value is converted where it is looked at first, outside of what read the file."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "good.dcm").write_bytes(ct.encode())
    broken = ct.encode(number=2).replace(b"\x02\x00\x02\x00UI", b"\x02\x00\x02\x00U\xff", 1)
    broken = broken.replace(b"\x08\x00\x16\x00UI", b"\x08\x00\x17\x00UI", 1)  # so that it is looked at
    (source / "bad.dcm").write_bytes(broken)
    ingested = ingest(source)
    assert [row["rule"] for row in ingested.refused] == ["malformed_dicom"]
