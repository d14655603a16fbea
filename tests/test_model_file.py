import zipfile

import numpy as np
import pytest

from tumorflow.errors import SourceError
from tumorflow.model_file import ModelFile, pack, unpack


def test_a_file_says_what_was_packed_behind_the_same_model(tmp_path):
    packed = pack(b"model", ModelFile({"classes": ["a", "b"]}, {"head": np.arange(3.0)}))
    assert packed.startswith(b"model")
    assert packed == pack(b"model", ModelFile({"classes": ["a", "b"]}, {"head": np.arange(3.0)}))
    said = unpack(packed)
    assert said.about == {"classes": ["a", "b"]}
    np.testing.assert_array_equal(said.arrays["head"], [0, 1, 2])
    (tmp_path / "model.tflite").write_bytes(packed)
    with zipfile.ZipFile(tmp_path / "model.tflite") as archive:
        assert archive.read("labels.txt") == b"a\nb\n"


@pytest.mark.parametrize("content", [b"", b"model", pack(b"m", ModelFile({"classes": []}, {}))[:-30]])
def test_a_file_that_says_nothing_is_refused(content):
    with pytest.raises(SourceError, match="Export the model again"):
        unpack(content)


def test_objects_are_not_loaded():
    import io

    content = io.BytesIO()
    np.save(content, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    packed = io.BytesIO(pack(b"m", ModelFile({"classes": []}, {})))
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("evil.npy", content.getvalue())
    with pytest.raises(SourceError):
        unpack(packed.getvalue())
