"""The arguments of a run, for whichever pipeline takes them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tumorflow.chain import DECIDE, STEPS
from tumorflow.files import hash_file
from tumorflow.lineage import hash_code
from tumorflow.params import Parameters


def pipeline_arguments(
    definition: Path,
    params: Parameters,
    *,
    source: str,
    data_hash: str,
    key_id: str,
    registry: str,
    images: Mapping[str, str],
    champion: str = "",
) -> dict[str, str]:
    """Returns those arguments that a compiled pipeline declares.

    Args:
        definition: the compiled YAML.
        params: of all steps.
        source: where the data are.
        data_hash: their version.
        key_id: fingerprint of the pseudonym key that must be used; empty: any.
        registry: which registry is meant.
        images: what the image of each kind is, by content; none: this installation.
        champion: the yardstick, NAME/VERSION; empty: none.
    """
    known = {
        "source": source,
        "data_hash": data_hash,
        "key_id": key_id,
        "registry": registry,
        "champion": champion,
        "light_image": images.get("light", ""),
        "tensorflow_image": images.get("tensorflow", ""),
    }
    for step in (*STEPS, DECIDE):
        known[f"{step.params}_params"] = params.section(step.params).model_dump_json()
        known[f"{step.params}_code"] = hash_code(step)
    weights = Path(params.train.weights)
    if weights.is_file():  # it counts as training's code; one that only a pod has, cannot be told from here
        known["train_code"] += f"-{hash_file(weights)[:16]}"
    return {name: known[name] for name in declared_arguments(definition)}


def declared_arguments(definition: Path) -> list[str]:
    """Returns the names of the arguments that a compiled pipeline takes."""
    spec: dict[str, Any] = next(yaml.safe_load_all(definition.read_text()))
    return list(spec["root"].get("inputDefinitions", {}).get("parameters", {}))
