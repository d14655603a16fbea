"""Keras' archive of a network, the same bytes for the same network.

Keras writes into it when it was saved, and addresses in memory as the names of shared objects. Without these
two the content hash of a model tells whether two trainings came to the same.
"""

import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

NEVER = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip file knows
SHARED = "shared_object_id"


def save_network(network: Any, path: Path) -> None:
    """Writes a Keras model to `path` in Keras' own format, `.keras`."""
    with tempfile.TemporaryDirectory(prefix=".network", dir=path.parent) as folder:
        draft = Path(folder) / path.name
        network.save(draft)
        with zipfile.ZipFile(draft) as saved, zipfile.ZipFile(path, "w") as archive:
            for name in saved.namelist():
                content = saved.read(name)
                if name == "metadata.json":
                    content = to_json({**json.loads(content), "date_saved": "1980-01-01@00:00:00"})
                elif name == "config.json":
                    content = to_json(number_shared(json.loads(content), {}))
                archive.writestr(zipfile.ZipInfo(name, NEVER), content)


def to_json(tree: Any) -> bytes:
    """Returns a tree as JSON."""
    return json.dumps(tree).encode()


def number_shared(tree: Any, numbers: dict[int, int]) -> Any:
    """Returns a configuration whose shared objects are numbered in the order in which they come.

    Args:
        tree: of dictionaries, lists and values.
        numbers: former number → new one, of the objects met so far; grows.
    """
    if isinstance(tree, dict):
        return {
            key: numbers.setdefault(value, len(numbers) + 1)
            if key == SHARED and isinstance(value, int)
            else number_shared(value, numbers)
            for key, value in tree.items()
        }
    if isinstance(tree, list):
        return [number_shared(item, numbers) for item in tree]
    return tree
