import io
import zipfile

import numpy as np
import pytest
from flatbuffers.number_types import Float32Flags, Int8Flags, Uint32Flags
from flatbuffers.table import Table

from tumorflow.export.tflite_metadata import attach, describe
from tumorflow.litert import Classifier
from tumorflow.model_file import LABELS, ModelFile, pack

ABOUT = {
    "classes": ["normal", "malignant"],
    "made_by": "tumorflow 1",
    "intended_use": "research, not for clinical decisions",
    "licence": "CC0",
    "registered_model": "lungs",
    "model_hash": "a1" * 32,
    "input": {"height": 20, "width": 30, "channels": 3, "range": [0, 255]},
    "preprocessing": {
        "method": "windows",
        "intensity_unit": "HU",
        "windows": [{"window_center_hu": -600.0, "window_width_hu": 1500.0}],
    },
}


class Read:
    """A table of a flatbuffer, read by its fields' numbers."""

    def __init__(self, content, place):
        self.table = Table(content, place)

    @classmethod
    def root(cls, content):
        return cls(content, int.from_bytes(content[:4], "little"))

    def _offset(self, number):
        offset = self.table.Offset(4 + 2 * number)
        assert offset, f"field {number} is missing"
        return offset

    def text(self, number):
        return self.table.String(self.table.Pos + self._offset(number)).decode()

    def number(self, number, flags):
        return self.table.Get(flags, self.table.Pos + self._offset(number))

    def child(self, number):
        return Read(self.table.Bytes, self.table.Indirect(self.table.Pos + self._offset(number)))

    def children(self, number):
        start, count = self.table.Vector(self._offset(number)), self.table.VectorLen(self._offset(number))
        return [Read(self.table.Bytes, self.table.Indirect(start + 4 * place)) for place in range(count)]

    def floats(self, number):
        return self.table.GetVectorAsNumpy(Float32Flags, self._offset(number)).tolist()


def test_each_part_of_the_metadata_is_where_the_schema_has_it():
    content = describe(ABOUT, [4, 2])
    assert content[4:8] == b"M001"
    model = Read.root(content)
    assert [model.text(number) for number in (0, 2, 5)] == ["lungs", "a1" * 32, "CC0"]
    assert "not for clinical decisions" in model.text(1)
    assert [file.text(0) for file in model.children(6)] == ["tumorflow.json"]
    (graph,) = model.children(3)
    (pixels,) = graph.children(2)
    assert "center -600, width 1500" in pixels.text(1)
    image = pixels.child(3)
    assert image.number(0, Int8Flags) == 2
    size = image.child(1).child(1)
    assert [size.number(0, Uint32Flags), size.number(1, Uint32Flags)] == [30, 20]
    (scaling,) = pixels.children(4)
    assert [scaling.child(1).floats(0), scaling.child(1).floats(1)] == [[0.0], [1.0]]
    assert [pixels.child(5).floats(0), pixels.child(5).floats(1)] == [[255.0], [0.0]]
    feature_map, probability = graph.children(3)
    assert [feature_map.text(0), probability.text(0)] == ["feature_map", "probability"]
    (labels,) = probability.children(6)
    assert [labels.text(0), labels.number(2, Int8Flags)] == [LABELS, 2]


@pytest.mark.parametrize(
    ("preparing", "said"),
    [
        ({"method": "windows", "intensity_unit": "display"}, ": grey, fitted"),
        ({"method": "article", "intensity_unit": "HU"}, "histogram equalised"),
        ({"method": "article", "intensity_unit": "display"}, "histogram equalised"),
    ],
)
def test_the_input_says_how_a_slice_becomes_one(preparing, said):
    about = {**ABOUT, "preprocessing": {**preparing, "windows": []}}
    (graph,) = Read.root(describe(about, [2])).children(3)
    assert said in graph.children(2)[0].text(1)


def test_a_model_answers_as_before_and_holds_its_metadata_once(flatbuffer):
    from tensorflow.lite.python.schema_py_generated import Model

    once = attach(flatbuffer.content, ABOUT)
    twice = attach(once, {**ABOUT, "licence": "MIT"})
    pixels = np.arange(np.prod(Classifier(once).input_shape)).reshape(Classifier(once).input_shape) % 256
    answers = [
        Classifier(content).answer(pixels.astype(np.uint8)).probabilities.tolist()
        for content in (flatbuffer.content, once, twice)
    ]
    assert answers[0] == answers[1] == answers[2]
    model = Model.GetRootAs(twice, 0)
    entries = [model.Metadata(place) for place in range(model.MetadataLength())]
    (entry,) = [each for each in entries if each.Name() == b"TFLITE_METADATA"]
    said = Read.root(model.Buffers(entry.Buffer()).DataAsNumpy().tobytes())
    assert said.text(5) == "MIT"
    assert [output.text(0) for output in said.children(3)[0].children(3)].count("probability") == 1


def test_the_files_that_the_metadata_name_are_in_the_archive_behind_the_model(flatbuffer):
    content = pack(attach(flatbuffer.content, ABOUT), ModelFile(ABOUT, {}))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.read("labels.txt") == b"normal\nmalignant\n"
        assert "tumorflow.json" in archive.namelist()
