import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from tumorflow.errors import SourceError
from tumorflow.training import checkpoint
from tumorflow.training.checkpoint import (
    CheckpointUnpickler,
    order_lite0_weights,
    parse_checkpoint,
    read_checkpoint,
)

# What PyTorch writes for one tensor "w" of shape (2, 2) on four numbers; offset and strides are open.
TENSOR = (
    b"\x80\x02ccollections\nOrderedDict\n)R(X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n"
    b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04NtQ"
    b"K%c(K\x02K\x02t(K%cK%ct\x89NtRu."
)


def legacy(offset=0, strides=(2, 1), values=(1.0, 2.0, 3.0, 4.0)):
    head = b"".join(
        pickle.dumps(part, 2) for part in (checkpoint.LEGACY_MAGIC, 1001, {"little_endian": True})
    )
    state = TENSOR % (bytes([offset]), bytes([strides[0]]), bytes([strides[1]]))
    keys = pickle.dumps(["0"], 2)
    return head + state + keys + struct.pack("<q", len(values)) + struct.pack(f"<{len(values)}f", *values)


def test_tensor_in_c_order():
    np.testing.assert_array_equal(parse_checkpoint(legacy())["w"], [[1, 2], [3, 4]])


def test_strides_are_honoured():
    np.testing.assert_array_equal(parse_checkpoint(legacy(strides=(1, 2)))["w"], [[1, 3], [2, 4]])


@pytest.mark.parametrize("content", [legacy(offset=1), legacy(strides=(4, 1))])
def test_a_tensor_outside_its_storage_is_refused(content):
    with pytest.raises(ValueError, match="outside its storage"):
        parse_checkpoint(content)


def test_a_cut_file_is_refused():
    with pytest.raises(EOFError, match="inside a storage"):
        parse_checkpoint(legacy()[:-4])


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_malicious_pickle_is_refused_before_it_acts(tmp_path: Path):
    bait = tmp_path / "called"
    with pytest.raises(pickle.UnpicklingError, match="mkdir"):
        parse_checkpoint(pickle.dumps(Evil(bait), 2))
    assert not bait.exists()


@pytest.mark.parametrize("name", [b"builtins\neval", b"os\nsystem", b"torch\nload", b"collections\nCounter"])
def test_every_other_name_is_refused(name):
    import io

    with pytest.raises(pickle.UnpicklingError, match="no tensor needs"):
        CheckpointUnpickler(io.BytesIO(b"c" + name + b"\n.")).load()


def test_other_content_is_refused_by_its_hash(tmp_path: Path):
    path = tmp_path / "lite0.pth"
    path.write_bytes(legacy())
    with pytest.raises(SourceError, match=checkpoint.LITE0_SHA256):
        read_checkpoint(path, checkpoint.LITE0_SHA256)


def test_another_format_is_told(tmp_path: Path):
    import hashlib

    path = tmp_path / "lite0.pth"
    path.write_bytes(b"PK\x03\x04 no pickle")
    with pytest.raises(SourceError, match="legacy format"):
        read_checkpoint(path, hashlib.sha256(path.read_bytes()).hexdigest())


def test_kernels_are_laid_out_for_keras_and_the_classifier_is_left_out():
    tensors = {
        "_conv_stem.weight": np.zeros((32, 3, 5, 7), np.float32),
        "_bn0.weight": np.zeros(32, np.float32),
        "_blocks.0._depthwise_conv.weight": np.zeros((32, 1, 5, 7), np.float32),
        "_fc.weight": np.zeros((1000, 1280), np.float32),
    }
    assert [array.shape for array in order_lite0_weights(tensors)] == [(5, 7, 3, 32), (32,), (5, 7, 32, 1)]
