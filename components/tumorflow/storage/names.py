"""Names that come from a store, before they become files."""

from collections.abc import Sequence

from tumorflow.errors import SourceError

LONGEST_PART_BYTES = 255


def is_safe(name: str) -> bool:
    """Returns whether a relative name stays below its folder, and every part can be a file's name."""
    return all(_is_part(part) for part in name.split("/"))


def _is_part(part: str) -> bool:
    if part in ("", ".", "..") or "\0" in part or "\\" in part:
        return False
    try:
        return len(part.encode()) <= LONGEST_PART_BYTES
    except UnicodeEncodeError:
        return False


def count_unsafe(names: Sequence[str]) -> int:
    """Returns how many names cannot be files together: unsafe, twice there, or a folder's, too."""
    unsafe = sum(not is_safe(name) for name in names)
    known = set(names)
    folders = {name[:end] for name in known for end in range(len(name)) if name[end] == "/"}
    return unsafe + len(known & folders) + len(names) - len(known)


def refuse_unsafe(names: Sequence[str]) -> None:
    """Stops before the first file is written if one name is unsafe. Names are counted, not repeated.

    Raises:
        SourceError: a name is unsafe.
    """
    unsafe = count_unsafe(names)
    if unsafe:
        raise SourceError(
            "Every object's name can be a file's below one folder. Received: "
            f"{unsafe} of {len(names)} that cannot ('..', an empty or overlong part, a backslash, or a name "
            "that is a folder's, too). Rename or move them."
        )
