"""The version of the data, for whoever starts a run."""

from pathlib import Path

from tumorflow.storage import ResolvedSource, hash_source
from tumorflow.storage import resolve as resolve_source
from tumorflow.storage.revisions import read_pointer

__all__ = ["ResolvedSource", "committed_hash", "hash_source", "resolve_source"]


def committed_hash(pointer: Path) -> str:
    """Returns the hash that a `.dvc` file promises, without its `.dir`; empty where there is no such file.

    Raises:
        SourceError: the file is no such promise.
    """
    if not pointer.is_file():
        return ""
    return read_pointer(pointer.read_text(), pointer.name).data_hash
