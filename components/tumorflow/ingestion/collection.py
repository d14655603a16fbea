"""Files in, slices out: each file becomes slices of the dataset or rows of the quarantine list."""

from dataclasses import asdict
from pathlib import Path

from tumorflow.errors import SliceError
from tumorflow.ingestion import deidentification, images, sources
from tumorflow.ingestion.canonical import build_dataset
from tumorflow.ingestion.dicom import CTFile
from tumorflow.ingestion.labels import LabelFile
from tumorflow.ingestion.manifest import Row, describe_intensities
from tumorflow.ingestion.pseudonyms import Pseudonyms
from tumorflow.ingestion.quarantine import Refusal
from tumorflow.ingestion.sources import SourceFile
from tumorflow.params import IngestParams
from tumorflow.slices import hash_intensities

# fmt: off
FACT_COLUMNS = (
    "row_spacing_mm", "column_spacing_mm", "slice_thickness_mm", "slice_position_mm", "manufacturer",
    "scanner_model", "convolution_kernel", "tube_voltage_kv", "sex", "age_years",
)
# fmt: on
UNKNOWN_FACTS = asdict(deidentification.Facts())


class Collection:
    """The slices and refusals so far. Pixels are written at once; only rows are kept in memory."""

    def __init__(
        self, params: IngestParams, labels: LabelFile | None, pseudonyms: Pseudonyms, dataset: Path
    ) -> None:
        self._params = params
        self._labels = labels
        self._pseudonyms = pseudonyms
        self._dataset = dataset
        self._rows: dict[str, Row] = {}
        self._files: dict[str, SourceFile] = {}
        self._refusals: list[Refusal] = []
        self._used_label_rows: set[int] = set()
        self._contradicted: set[str] = set()

    @property
    def used_label_rows(self) -> frozenset[int]:
        """The rows of the label file that named a slice's class."""
        return frozenset(self._used_label_rows)

    def add(self, file: SourceFile, kind: sources.Kind) -> None:
        """Takes one file in: as slices, or as refusals.

        Raises:
            SourceError: the label file contradicts itself about this file.
            OSError: the dataset cannot be written.
        """
        try:
            size = sources.check_readable(file)
            if kind == "images":
                self._add_image(file)
            elif file.path.suffix.lower() in sources.IMAGE_SUFFIXES:
                raise SliceError(
                    "mixed_source",
                    "An image file lies in a source of DICOM files (most files decide).",
                    "Ingest images and DICOM files as sources of their own.",
                )
            else:
                self._add_dicom(file, size)
        except SliceError as error:
            self._refuse(file, error)

    def finish(self) -> tuple[list[Row], list[Refusal]]:
        """Returns the rows and refusals; slices that came under two classes are taken back."""
        for slice_id in sorted(self._contradicted, key=lambda key: self._files[key].position):
            row = self._rows.pop(slice_id)
            (self._dataset / str(row.values["path"])).unlink()
            self._refuse(self._files[slice_id], _contradicted_label())
        return list(self._rows.values()), self._refusals

    def _refuse(self, file: SourceFile, error: SliceError) -> None:
        self._refusals.append(Refusal.of(file.position, file.name, error))

    def _add_image(self, file: SourceFile) -> None:
        if file.path.suffix.lower() not in sources.IMAGE_SUFFIXES:
            raise SliceError(
                "mixed_source",
                "A file that is no image lies in a source of images (most files decide).",
                "Ingest images and DICOM files as sources of their own.",
            )
        pixels = images.read_grey(file.path, self._params.max_pixels)
        content_hash = hash_intensities(pixels)
        slice_id = base = f"image-{content_hash[:16]}"
        copies = 1
        while slice_id in self._rows:  # exact copies are kept: preprocessing groups them
            copies += 1
            slice_id = f"{base}-{copies}"
        path = f"slices/{slice_id}.png"
        images.write_grey(self._dataset / path, pixels)
        facts = {name: UNKNOWN_FACTS[name] for name in FACT_COLUMNS}
        self._files[slice_id] = file
        self._rows[slice_id] = Row(
            {
                "slice_id": slice_id,
                "path": path,
                "patient": "",
                "study": "",
                "series": "",
                "label": self._find_label(file, series_uid="", patient_id=""),
                "intensity_unit": "display",
                "rows": pixels.shape[0],
                "columns": pixels.shape[1],
                "rescale_slope": None,
                "rescale_intercept": None,
                **facts,
                **describe_intensities(pixels),
                "content_hash": content_hash,
            },
            position=(file.position, 0),
        )

    def _add_dicom(self, file: SourceFile, size: int) -> None:
        ct = CTFile(file.path, size, self._params.max_pixels)
        label = self._find_label(file, ct.series_uid, ct.patient_id)
        for frame in range(ct.frames):
            try:
                self._add_slice(file, ct, label, frame)
            except SliceError as error:
                self._refuse(file, error)

    def _add_slice(self, file: SourceFile, ct: CTFile, label: str, frame: int) -> None:
        one = ct.slice(frame)
        identity, facts = ct.describe(frame, one.geometry)
        slice_id = self._pseudonyms.uid(identity.sop_uid)
        content_hash = hash_intensities(one.hounsfield)
        if slice_id in self._rows:
            self._judge_repetition(slice_id, label, content_hash)
        path = f"slices/{slice_id}.dcm"
        dataset = build_dataset(one.hounsfield, identity, facts, self._pseudonyms)
        dataset.save_as(self._dataset / path, enforce_file_format=True)
        kept = asdict(facts)
        self._files[slice_id] = file
        self._rows[slice_id] = Row(
            {
                "slice_id": slice_id,
                "path": path,
                "patient": str(dataset.PatientID),
                "study": str(dataset.StudyInstanceUID),
                "series": str(dataset.SeriesInstanceUID),
                "label": label,
                "intensity_unit": "HU",
                "rows": one.hounsfield.shape[0],
                "columns": one.hounsfield.shape[1],
                "rescale_slope": 1.0,
                "rescale_intercept": 0.0,
                **{name: kept[name] for name in FACT_COLUMNS},
                **describe_intensities(one.hounsfield),
                "content_hash": content_hash,
            },
            position=(file.position, frame),
        )

    def _judge_repetition(self, slice_id: str, label: str, content_hash: str) -> None:
        """Refuses a SOP Instance UID that was seen before; under another class, the first one as well."""
        first = self._rows[slice_id].values
        if first["label"] != label:
            self._contradicted.add(slice_id)
            raise _contradicted_label()
        if first["content_hash"] != content_hash:
            raise SliceError(
                "conflicting_instance",
                "Another image with the same SOP Instance UID came before.",
                "Keep the right one of the two.",
            )
        raise SliceError("duplicate_instance", "The same image came before.", "Nothing to do: one is kept.")

    def _find_label(self, file: SourceFile, series_uid: str, patient_id: str) -> str:
        if self._labels is None:
            return sources.label_by_folder(file.relative, self._params.classes, self._params.class_folders)
        label, row = self._labels.find(file.relative, series_uid, patient_id)
        if row:
            self._used_label_rows.add(row)
        return label


def _contradicted_label() -> SliceError:
    return SliceError(
        "conflicting_label",
        "The same SOP Instance UID comes under two classes.",
        "Leave it under the right one only.",
    )
