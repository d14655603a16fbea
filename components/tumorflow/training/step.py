"""Train: `tensors` → `model`."""

import csv
import tempfile
from dataclasses import astuple, fields
from pathlib import Path

from tumorflow.files import write_json
from tumorflow.params import TrainParams
from tumorflow.tensorflow_runtime import configure
from tumorflow.tracker import Tracker
from tumorflow.training.archive import save_network
from tumorflow.training.backbones import build_backbone
from tumorflow.training.fitting import Epoch, best_epoch
from tumorflow.training.network import build_network, count_parameters
from tumorflow.training.recipe import train, weigh_classes
from tumorflow.training.splits import read_tensors


def run(params: TrainParams, *, tensors: Path, model: Path, tracker: Tracker) -> str:
    """Writes the trained network, its history and its facts to `model`; returns an empty string.

    Raises:
        DataError: a class has no training slices, or the loss is no finite number.
        ParameterError: the tensors hold other classes.
        SourceError: an input file is missing or unreadable.
        UnavailableError: the backbone's ImageNet weights cannot be had.
    """
    data = read_tensors(tensors, params.classes)
    configure(params.seed)
    backbone, weights = build_backbone(params.backbone, params.weights, data.image_size_px)
    network = build_network(backbone, params)
    with tempfile.TemporaryDirectory(prefix=".features", dir=model) as scratch:
        history, temperature = train(network, data, params, scratch=Path(scratch), tracker=tracker)
    save_network(network.whole, model / "model.keras")
    write_history(model / "history.csv", history)
    parameters, trainable = count_parameters(network)
    write_json(
        model / "training.json",
        {
            "backbone": params.backbone,
            "weights": weights,
            "attention": params.attention,
            "parameters": parameters,
            "trainable_parameters": trainable,
            "best_epoch": best_epoch(history).epoch,
            "temperature": temperature,
            "class_weights": dict(
                zip(params.classes, weigh_classes(data.training, params).tolist(), strict=True)
            ),
            "seed": params.seed,
        },
    )
    return ""


def write_history(path: Path, history: tuple[Epoch, ...]) -> None:
    """Writes one row an epoch as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(Epoch))
        writer.writerows(astuple(epoch) for epoch in history)
