"""A tiny world for evaluation: shards, index, a hand-made Keras model and the facts around them."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tumorflow.errors import ParameterError
from tumorflow.membership import describe_members
from tumorflow.tracker import RegisteredVersion, Untracked

CLASSES = ("normal", "benign", "malignant")
SIZE_PX = 32


def make_slice(generator: np.random.Generator, label: int, hardness: float) -> np.ndarray:
    """Each class is bright in its own channel, more or less."""
    image = generator.integers(0, 60, (SIZE_PX, SIZE_PX, 3))
    image[8:20, 8:20, label] += int(150 * generator.uniform(1 - hardness, 1))
    image[8:20, 8:20, (label + 1) % 3] += int(150 * generator.uniform(0, hardness))
    return np.clip(image, 0, 255).astype(np.uint8)


def write_tensors(
    folder: Path, groups_from: str = "patient", hardness: float = 0.8, classes: tuple[str, ...] = CLASSES
) -> Path:
    generator = np.random.default_rng(3)
    (folder / "shards").mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    images = []
    for split, per_class in (("train", 4), ("validation", 2), ("test", 8)):
        for label, name in enumerate(classes):
            for number in range(per_class):
                group = f"{split}-{label}-{number}"
                for _ in range(3):
                    image = make_slice(generator, label, hardness)
                    images.append(image)
                    rows.append(
                        {
                            "slice_id": f"slice-{len(rows)}",
                            "split": split,
                            "label": name,
                            "label_index": label,
                            "group": group,
                            "patient": group if groups_from == "patient" else "",
                            "manufacturer": ("SIEMENS", "GE", "<b>Philips</b>")[number % 3],
                            "convolution_kernel": "B30f" if number % 2 else "",
                            "slice_thickness_mm": (1.0, 2.5, np.nan)[number % 3],
                            "sex": "FM"[number % 2],
                            "age_years": 45.0 + 5 * number,
                            "content_hash": hashlib.sha256(image.tobytes()).hexdigest(),
                        }
                    )
    order = generator.permutation(len(rows))
    for shard, start in enumerate(range(0, len(rows), 16)):
        positions = order[start : start + 16]
        np.save(folder / "shards" / f"shard-{shard:05}.npy", np.stack([images[at] for at in positions]))
        for row, at in enumerate(positions):
            rows[at] |= {"shard": f"shard-{shard:05}.npy", "row": row}
    index = pd.DataFrame(rows)
    index.to_parquet(folder / "index.parquet", index=False)
    counts = {
        split: {
            name: index[(index["split"] == split) & (index["label"] == name)]["group"].nunique()
            for name in classes
        }
        for split in ("train", "validation", "test")
    }
    preprocessing = {
        "method": "windows",
        "image_size_px": SIZE_PX,
        "windows": [{"window_center_hu": -600.0, "window_width_hu": 1500.0}],
        "classes": list(classes),
        "intensity_unit": "HU",
        "air": [0, 0, 0],
        "groups_from": groups_from,
        "groups": counts,
        "slices": {
            split: {name: 3 * count for name, count in inner.items()} for split, inner in counts.items()
        },
        "split_hash": "5f" * 32,
    }
    (folder / "preprocessing.json").write_text(json.dumps(preprocessing))
    record = {
        "step": "preprocess",
        "git_commit": "c0ffee",
        "lineage": {"data_hash": "d" * 64, "ingest": {"code_hash": "a" * 16, "content_hash": "b" * 64}},
    }
    (folder / "record.json").write_text(json.dumps(record))
    return folder


def build_network(sharpness: float = 12.0) -> Any:
    """Means of the channels, each class's own channel counted: right unless the slice is hard."""
    from tumorflow.tensorflow_runtime import configure

    keras = configure(7)
    layers = keras.layers
    images = keras.Input((SIZE_PX, SIZE_PX, 3))
    scaled = layers.Rescaling(1 / 255)(images)
    convolution = layers.Conv2D(3, 3, strides=4, padding="same", name="convolution")
    maps = convolution(scaled)
    pooled = layers.GlobalAveragePooling2D()(layers.ReLU()(maps))
    dropped = layers.Dropout(0.5)(pooled)
    head = layers.Dense(3, activation="softmax")
    network = keras.Model(images, head(dropped))
    kernel = np.zeros((3, 3, 3, 3), np.float32)
    kernel[:, :, range(3), range(3)] = 1 / 9
    convolution.set_weights([kernel, np.zeros(3, np.float32)])
    head.set_weights([np.eye(3, dtype=np.float32) * sharpness * 2, np.zeros(3, np.float32)])
    convolution.trainable = False
    return network


def write_model(folder: Path, network: Any) -> Path:
    folder.mkdir(parents=True)
    network.save(folder / "model.keras")
    training = {
        "backbone": "efficientnet_lite0",
        "weights": {"origin": "random", "sha256": ""},
        "attention": "none",
        "parameters": 93,
        "trainable_parameters": 12,
        "best_epoch": 2,
        "class_weights": {"normal": 1.0, "benign": 1.0, "malignant": 1.0},
        "seed": 7,
    }
    (folder / "training.json").write_text(json.dumps(training))
    (folder / "history.csv").write_text(
        "epoch,loss,accuracy,val_loss,val_accuracy,val_macro_f1,learning_rate\n"
        "1,1.1,0.3,1.0,0.4,0.3,0.001\n2,0.8,0.6,0.7,0.7,0.65,0.001\n3,0.6,0.7,0.75,0.6,0.6,0.001\n"
    )
    return folder


def write_validation(folder: Path) -> Path:
    folder.mkdir(parents=True)
    warning = {"rule": "few_patients", "message": "Class benign has few patients.", "remedy": "Add some."}
    (folder / "report.json").write_text(
        json.dumps({"errors": [], "warnings": [warning], "expectations": [], "statistics": {}})
    )
    return folder


class Registry(Untracked):
    """Holds the version tiny/3: whatever lies in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metrics: dict[str, float] = {}
        self.params: dict[str, Any] = {}

    def log_metrics(self, metrics: Mapping[str, float], epoch: int | None = None) -> None:
        self.metrics |= metrics

    def log_params(self, params: Mapping[str, Any]) -> None:
        self.params |= params

    def fetch_version(self, name: str, version: str, folder: Path, files: Sequence[str]) -> RegisteredVersion:
        if (name, version) != ("tiny", "3"):
            raise ParameterError
        for file in files:
            if (self.folder / file).is_file():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.folder / file, folder / file)
        return RegisteredVersion(name, version)


def write_registry(folder: Path, inputs: Mapping[str, Path]) -> Registry:
    """Its version is the inputs' model, trained on their training split."""
    (folder / "evidence").mkdir(parents=True)
    shutil.copy(inputs["model"] / "model.keras", folder)
    shutil.copy(inputs["tensors"] / "preprocessing.json", folder / "evidence")
    index = pd.read_parquet(inputs["tensors"] / "index.parquet")
    describe_members(index).to_parquet(folder / "evidence" / "groups.parquet")
    return Registry(folder)


@pytest.fixture(scope="session")
def network() -> Any:
    return build_network()


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory, network: Any) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("inputs")
    return {
        "tensors": write_tensors(root / "tensors"),
        "model": write_model(root / "model", network),
        "validation": write_validation(root / "validation"),
    }


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """The builders, for tests that need another world."""
    return SimpleNamespace(
        tensors=write_tensors, model=write_model, network=build_network, registry=write_registry
    )
