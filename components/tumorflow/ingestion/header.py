"""Reading single values from headers that may be broken: a value is there and sane, or it is not there."""

import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.tag import BaseTag


@cache
def malformed() -> tuple[type[Exception], ...]:
    """Returns what parsers and decoders raise on malformed input; all of it means: refuse this file."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    return (
        BytesLengthException,
        InvalidDicomError,
        struct.error,
        zlib.error,
        ArithmeticError,
        AssertionError,
        AttributeError,
        BufferError,
        EOFError,
        LookupError,
        MemoryError,
        OSError,
        RuntimeError,
        SyntaxError,  # Pillow, on broken PNG chunks
        TypeError,
        ValueError,
    )


@contextmanager
def quiet_reading() -> Iterator[None]:
    """Keeps pydicom's warnings and log lines off the terminal: they repeat values, and so patient data."""
    import logging
    import warnings

    import pydicom.config

    logger = logging.getLogger("pydicom")
    level = logger.level
    if level > logging.CRITICAL:  # quiet already: to change it all takes a tenth of a slice's reading
        yield
        return
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def silence_reading() -> None:
    """Keeps pydicom's warnings and log lines off the terminal from now on, in every thread.

    What `quiet_reading` changes and restores belongs to the whole process: where several threads read at
    once, one would restore what another still needs.
    """
    import logging
    import warnings

    import pydicom.config

    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    warnings.simplefilter("ignore")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE


def read_texts(dataset: "Dataset", keyword: str) -> tuple[str, ...]:
    """Returns an element's values as stripped strings; empty where it is missing or malformed."""
    from pydicom.multival import MultiValue

    tag = _tag_of(keyword)
    try:
        # most elements of most headers are missing: pydicom's search by keyword takes ten times as long
        value = dataset[tag].value if tag in dataset else None
        if value is None:
            return ()
        values = value if isinstance(value, MultiValue | list | tuple) else [value]
        return tuple(str(item).replace("\0", "").strip() for item in values)
    except malformed():
        return ()


@cache
def _tag_of(keyword: str) -> "BaseTag":
    from pydicom.tag import Tag

    return Tag(keyword)


def read_text(dataset: "Dataset", keyword: str) -> str:
    """Returns an element's first value as a stripped string; empty where there is none."""
    return next(iter(read_texts(dataset, keyword)), "")


def read_numbers(dataset: "Dataset", keyword: str, count: int, limit: float) -> tuple[float, ...] | None:
    """Returns an element's `count` values, finite, at most `limit` in magnitude; else None."""
    try:
        values = tuple(float(text) for text in read_texts(dataset, keyword))
    except ValueError:
        return None
    sane = len(values) == count and all(math.isfinite(value) and abs(value) <= limit for value in values)
    return values if sane else None


def read_number(dataset: "Dataset", keyword: str, low: float, high: float) -> float | None:
    """Returns an element's only value if it lies in [low, high]; None otherwise."""
    values = read_numbers(dataset, keyword, count=1, limit=max(abs(low), abs(high)))
    return values[0] if values and low <= values[0] <= high else None


def read_count(dataset: "Dataset", keyword: str, default: int) -> int:
    """Returns an element's only value as an integer ≥ 0; `default` if missing, -1 if malformed."""
    if not read_text(dataset, keyword):
        return default
    value = read_number(dataset, keyword, 0, 2**31)
    return int(value) if value is not None and value.is_integer() else -1
