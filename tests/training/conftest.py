import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

CLASSES = ["normal", "benign", "malignant"]


@pytest.fixture(scope="session")
def tensors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `tensors` folder of 36 noisy slices of 32 px in two shards, each class of its own brightness."""
    return write_tensors(tmp_path_factory.mktemp("tensors"))


@pytest.fixture
def new_model(tmp_path: Path) -> Callable[[str], Path]:
    """Makes an empty folder, as the harness hands it to a step."""

    def make(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        return folder

    return make


def write_tensors(folder: Path) -> Path:
    generator = np.random.default_rng(0)
    labels = np.arange(36) % 3
    noise = generator.integers(0, 60, (36, 32, 32, 3))
    images = (noise + 80 * labels[:, None, None, None]).astype(np.uint8)
    (folder / "shards").mkdir()
    np.save(folder / "shards" / "shard-00000.npy", images[:20])
    np.save(folder / "shards" / "shard-00001.npy", images[20:])
    pd.DataFrame(
        {
            "slice_id": [f"s{number}" for number in range(36)],
            "shard": [f"shard-{number // 20:05d}.npy" for number in range(36)],
            "row": [number % 20 for number in range(36)],
            "split": ["train"] * 18 + ["validation"] * 9 + ["test"] * 9,
            "label": [CLASSES[label] for label in labels],
            "label_index": labels,
            "content_hash": [hashlib.sha256(image.tobytes()).hexdigest() for image in images],
        }
    ).to_parquet(folder / "index.parquet")
    facts = {"image_size_px": 32, "classes": CLASSES, "air": [0, 0, 0]}
    (folder / "preprocessing.json").write_text(json.dumps(facts))
    return folder
