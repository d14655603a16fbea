"""`tumorflow sample`: the synthetic cohort, and how far two plain features get on it."""

import argparse
from pathlib import Path
from typing import Any

from tumorflow.errors import SourceError
from tumorflow.files import hash_file, read_json, write_json, written_folder
from tumorflow.params import SampleParams

MARKER = "cohort.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("--output", default="data", metavar="DIR", help="folder to write (default: data)")
    parser.add_argument("--force", action="store_true", help="write it anew, and over what is there")


def run(given: argparse.Namespace, params: SampleParams) -> int:
    """Returns 0 after writing the cohort, unless the folder holds it already.

    Raises:
        SourceError: the folder holds something else, which is not overwritten.
    """
    folder = Path(given.output)
    maker = {"params": params.model_dump(mode="json"), "generator": hash_generator()}
    if not given.force and folder.exists() and any(folder.iterdir()):
        made = read_json(folder / MARKER) if (folder / MARKER).is_file() else None
        if made is None:
            raise SourceError(
                f"The sample cohort is not written over other files. Received: --output {folder}, "
                "which holds something else. Name another folder, or add --force."
            )
        if all(made.get(key) == value for key, value in maker.items()):
            print(f"{folder}: the sample cohort is there, nothing to do")
            print(describe(made))
            return 0
    from tumorflow.sampling.baseline import two_feature_baseline
    from tumorflow.sampling.cohort import write_cohort

    with written_folder(folder) as aside:
        facts = write_cohort(params, aside)
        baseline = two_feature_baseline(aside, params.seed)
        # rounded: the last digits may differ from machine to machine, and this file is hashed with the data
        rounded = {"accuracy": round(baseline.accuracy, 3), "macro_f1": round(baseline.macro_f1, 3)}
        made = {**maker, **facts, "two_feature_baseline": rounded}
        write_json(aside / MARKER, made)
    print(f"{folder}: wrote a synthetic cohort")
    print(describe(made))
    return 0


def describe(made: dict[str, Any]) -> str:
    """Returns in words what a cohort's marker says: classes, scanners, broken files, baseline."""
    counts = ", ".join(
        f"{kind} {patients} patients, {made['slices'][kind]} slices"
        for kind, patients in made["patients"].items()
    )
    baseline = made["two_feature_baseline"]
    return (
        f"classes: {counts}\n"
        f"scanners: {', '.join(f'{name} {count}' for name, count in made['scanners'].items())} patients\n"
        f"to be refused: {', '.join(made['broken_files'])}; {made['near_duplicates']} near-duplicate\n"
        "two-feature baseline (size and brightness of the largest solid thing in the lung, 5 folds of "
        f"patients): accuracy {baseline['accuracy']:.2f}, macro-F1 {baseline['macro_f1']:.2f}"
    )


def hash_generator() -> str:
    """Returns a hash of the code that draws, so that a change of it makes the cohort anew."""
    import hashlib

    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256("".join(hash_file(path) for path in files).encode()).hexdigest()[:16]
