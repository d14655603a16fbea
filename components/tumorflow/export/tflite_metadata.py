"""TensorFlow Lite's own metadata in a model: what phone libraries read by themselves.

Schema: metadata_schema.fbs of TFLite Support, file identifier M001. Its tables are written here by their
fields' numbers, as the package that has classes for them is kept no longer. The label file and the whole
description are entries of the zip archive behind the model (`model_file`), where that schema looks for them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tumorflow.model_file import ABOUT, LABELS

if TYPE_CHECKING:
    from flatbuffers import Builder

NAME, IDENTIFIER = "TFLITE_METADATA", b"M001"
PARSER_VERSION = "1.2.0"
FEATURES, IMAGE = 1, 2  # ContentProperties
RGB = 1  # ColorSpaceType
NORMALIZATION = 1  # ProcessUnitOptions
DESCRIPTION, AXIS_LABELS = 1, 2  # AssociatedFileType
PREPARING = {
    "windows": "Hounsfield units, fitted to the square with air around them; each channel a window, "
    "((HU - center) / width + 0.5) * 255 within 0 to 255: {windows}",
    "display": "grey, fitted to the square with black around it and copied to three channels",
    "article": "stretched to the square, from its least to its greatest value, its histogram equalised",
}
Field = Callable[["Builder"], int]
"""Writes what a field refers to, and returns where it is."""


def attach(flatbuffer: bytes, about: Mapping[str, Any]) -> bytes:
    """Returns a TFLite model with the standard's metadata in it.

    Args:
        flatbuffer: the model; what it says so far by this name is replaced.
        about: as `metadata.describe_file` tells it.
    """
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(flatbuffer)
    graph = model.subgraphs[0]
    ranks = [len(graph.tensors[index].shape) for index in graph.outputs]
    buffer = schema.BufferT()
    buffer.data = describe(about, ranks)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = NAME, len(model.buffers) - 1
    others = [each for each in model.metadata or [] if each.name != NAME.encode()]
    model.metadata = [*others, entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def describe(about: Mapping[str, Any], output_ranks: Sequence[int]) -> bytes:
    """Returns the metadata's flatbuffer.

    Args:
        about: as `metadata.describe_file` tells it.
        output_ranks: dimensions of each output, in the model's order; 2 are probabilities, 4 a feature map.
    """
    from flatbuffers import Builder

    builder = Builder(1024)
    graph = _table({2: _tables([_input(about)]), 3: _tables([_output(rank) for rank in output_ranks])})
    said = _table(
        {
            0: _text(about["registered_model"]),
            1: _text(f"Tumour classification in CT. Intended use: {about['intended_use']}."),
            2: _text(about["model_hash"]),
            3: _tables([graph]),
            4: _text(about["made_by"]),
            5: _text(about["licence"]),
            6: _tables([_file(ABOUT, "All that the model says of itself, as JSON.", DESCRIPTION)]),
            7: _text(PARSER_VERSION),
        }
    )
    builder.Finish(said(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _input(about: Mapping[str, Any]) -> Field:
    size, preparing = about["input"], about["preprocessing"]
    low, high = size["range"]
    windows = "; ".join(
        f"center {window['window_center_hu']:g}, width {window['window_width_hu']:g}"
        for window in preparing["windows"]
    )
    grey = preparing["method"] == "windows" and preparing["intensity_unit"] == "display"
    way = "display" if grey else preparing["method"]
    how = PREPARING[way].format(windows=windows)
    image_size = _table({0: _number(size["width"]), 1: _number(size["height"])})
    image = _table({0: _byte(RGB), 1: image_size})
    unchanged = _table({0: _floats([0.0]), 1: _floats([1.0])})  # mean and deviation: the model itself scales
    return _table(
        {
            0: _text("pixels"),
            1: _text(f"A CT slice, {low} to {high}: {how}."),
            3: _table({0: _byte(IMAGE), 1: image}),
            4: _tables([_table({0: _byte(NORMALIZATION), 1: unchanged})]),
            5: _table({0: _floats([high]), 1: _floats([low])}),
        }
    )


def _output(rank: int) -> Field:
    if rank != 2:
        return _table({0: _text("feature_map"), 1: _text("The last feature map, for Grad-CAM.")})
    return _table(
        {
            0: _text("probability"),
            1: _text("Calibrated probability of each class."),
            3: _table({0: _byte(FEATURES), 1: _table({})}),
            5: _table({0: _floats([1.0]), 1: _floats([0.0])}),
            6: _tables([_file(LABELS, "The classes, one a line.", AXIS_LABELS)]),
        }
    )


def _file(name: str, description: str, kind: int) -> Field:
    return _table({0: _text(name), 1: _text(description), 2: _byte(kind)})


class _Inline:
    """A number that stands in its table itself."""

    def __init__(self, value: int, add: str) -> None:
        self.value, self.add = value, add


def _byte(value: int) -> _Inline:
    return _Inline(value, "PrependInt8Slot")


def _number(value: int) -> _Inline:
    return _Inline(value, "PrependUint32Slot")


def _text(text: str) -> Field:
    return lambda builder: int(builder.CreateString(text))


def _floats(values: Sequence[float]) -> Field:
    def write(builder: "Builder") -> int:
        builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            builder.PrependFloat32(value)
        return int(builder.EndVector())

    return write


def _tables(tables: Sequence[Field]) -> Field:
    def write(builder: "Builder") -> int:
        written = [table(builder) for table in tables]
        builder.StartVector(4, len(written), 4)
        for place in reversed(written):
            builder.PrependUOffsetTRelative(place)
        return int(builder.EndVector())

    return write


def _table(fields: Mapping[int, Field | _Inline]) -> Field:
    """Returns what writes a table: field number → what it holds."""

    def write(builder: "Builder") -> int:
        # what a table refers to is written before it
        places = {
            number: field(builder) for number, field in fields.items() if not isinstance(field, _Inline)
        }
        builder.StartObject(max(fields, default=-1) + 1)
        for number, field in fields.items():
            if isinstance(field, _Inline):
                getattr(builder, field.add)(number, field.value, 0)
            else:
                builder.PrependUOffsetTRelativeSlot(number, places[number], 0)
        return int(builder.EndObject())

    return write
