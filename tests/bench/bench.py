"""`make bench`: ratios that do not depend on the machine's mood, both sides of each in one run.

Prints one line a goal: the ratio, the goal, and the two sides.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev

import numpy as np

CHECKOUT = Path(__file__).parents[2]
IQOTH = CHECKOUT.parent / "shared" / "data" / "iqoth_nccd"
TUMORFLOW = str(Path(sys.executable).parent / "tumorflow")
ROUNDS = 5
HEAD_EPOCHS = 40
PARTS, PARTS_AT_A_TIME, PARTS_SLICES, PARTS_ROUNDS = 4, 2, 12_000, 2
SPLIT_SEEDS = (1, 2, 3, 4, 5)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help=f"some of: {', '.join(BENCHES)}")
    chosen = parser.parse_args().only or list(BENCHES)
    os.environ.setdefault("TUMORFLOW_PSEUDONYM_KEY", "3c7a9e51f08b42d6a1c4e7f39b85d260")
    if len(chosen) > 1:  # each in a process of its own, so that none finds another's caches
        codes = [subprocess.run([sys.executable, __file__, name], check=False).returncode for name in chosen]
        return max(codes)
    with tempfile.TemporaryDirectory(prefix="tumorflow-bench-") as scratch, contextlib.chdir(scratch):
        BENCHES[chosen[0]](Path(scratch))
    return 0


def tell(what: str, ratio: float, goal: str, sides: str) -> None:
    print(f"{what:<58} {ratio:8.2f}  goal {goal:<8} {sides}", flush=True)


def sample_dataset(scratch: Path, patients: int, slices: int) -> Path:
    """Returns an ingested sample cohort."""
    from tumorflow.execution import execute
    from tumorflow.params import IngestParams, SampleParams
    from tumorflow.sampling.cohort import write_cohort

    source, dataset = scratch / "source", scratch / "dataset"
    source.mkdir()
    write_cohort(SampleParams(patients=patients, slices_per_patient=slices), source)
    execute(
        "ingest",
        params=IngestParams().model_dump_json(),
        inputs={},
        output=str(dataset),
        arguments={"source": str(source), "data_hash": "", "key_id": ""},
    )
    return dataset


def bench_preprocessing(scratch: Path) -> None:
    """Slices a second on one core: ours, the article's method, and no more than decoding and resizing."""
    import cv2
    import pydicom

    from tumorflow.params import PreprocessParams
    from tumorflow.preprocessing.article import to_article_tensor
    from tumorflow.slices import read_intensities
    from tumorflow.tensors import to_tensor

    cv2.setNumThreads(1)
    params = PreprocessParams()
    files = sorted(sample_dataset(scratch, patients=12, slices=5).rglob("*.dcm"))
    size = params.image_size_px

    def ours(path: Path) -> None:
        to_tensor(read_intensities(path), unit="HU", image_size_px=size, windows=params.windows)

    def article(path: Path) -> None:
        to_article_tensor(read_intensities(path), image_size_px=size)

    def raw(path: Path) -> None:
        cv2.resize(pydicom.dcmread(path).pixel_array, (size, size))

    rates = slices_per_second([ours, article, raw], files)
    sides = f"{rates[0]:.0f} against {{:.0f}} slices/s on one core"
    tell("preprocessing against the article's method", rates[0] / rates[1], "≥ 10", sides.format(rates[1]))
    tell("preprocessing against raw decode and resize", rates[0] / rates[2], "≥ 0.6", sides.format(rates[2]))


def slices_per_second(ways: Sequence[Callable[[Path], None]], files: Sequence[Path]) -> list[float]:
    """Returns each way's best rate over rounds in which the ways take turns."""
    best = [0.0] * len(ways)
    for _ in range(ROUNDS):
        for position, way in enumerate(ways):
            started = time.perf_counter()
            for path in files:
                way(path)
            best[position] = max(best[position], len(files) / (time.perf_counter() - started))
    return best


def bench_head(scratch: Path) -> None:
    """Head training: features of the frozen backbone once, against the backbone in every epoch."""
    from tumorflow.execution import execute
    from tumorflow.params import PreprocessParams, TrainParams, ValidateParams
    from tumorflow.tensorflow_runtime import configure
    from tumorflow.tracker import Untracked

    dataset = sample_dataset(scratch, patients=60, slices=3)
    execute(
        "validate",
        params=ValidateParams().model_dump_json(),
        inputs={"dataset": str(dataset)},
        output=str(scratch / "validation"),
    )
    execute(
        "preprocess",
        params=PreprocessParams().model_dump_json(),
        inputs={"dataset": str(dataset), "validation": str(scratch / "validation")},
        output=str(scratch / "tensors"),
    )
    keras = configure(seed=7)
    from tumorflow.training import step

    seconds, auc = {}, {}
    for cached in (True, False):
        params = TrainParams(
            epochs=HEAD_EPOCHS,
            early_stopping_patience=HEAD_EPOCHS,
            augmented_views=0,
            refit=False,
            cache_features=cached,
        )
        model = scratch / f"model-{cached}"
        model.mkdir()
        started = time.perf_counter()
        step.run(params, tensors=scratch / "tensors", model=model, tracker=Untracked())
        seconds[cached] = time.perf_counter() - started
        network = keras.models.load_model(model / "model.keras", compile=False)
        auc[cached] = validation_auc(network, scratch / "tensors", params.classes)
    tell(
        "head training, features once against every epoch",
        seconds[False] / seconds[True],
        "≥ 10",
        f"{seconds[True]:.1f} s against {seconds[False]:.1f} s for {HEAD_EPOCHS} epochs; "
        f"validation AUC {auc[True]:.4f} and {auc[False]:.4f}",
    )


def validation_auc(network: object, tensors: Path, classes: Sequence[str]) -> float:
    """Returns the macro one-against-rest AUC on the validation split."""
    from sklearn.metrics import roc_auc_score

    from tumorflow.training.splits import read_tensors

    split = read_tensors(tensors, tuple(classes)).validation
    pixels = split.read(np.arange(len(split))).astype(np.float32)
    answers = network.predict(pixels, verbose=0)  # type: ignore[attr-defined]  # a Keras model
    return float(roc_auc_score(split.labels, answers, multi_class="ovr"))


def bench_memory(scratch: Path) -> None:
    """Peak memory of preprocessing, at 200 and at 2,000 slices."""
    dataset = sample_dataset(scratch, patients=40, slices=5)
    peaks = {}
    for slices in (200, 2000):
        grown = grow(dataset, scratch / f"dataset-{slices}", slices)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks[slices] = pool.apply(preprocessing_peak_mb, (grown, scratch / f"tensors-{slices}"))
    tell(
        "peak memory of preprocessing, 2,000 against 200 slices",
        peaks[2000] / peaks[200],
        "≤ 1.1",
        f"{peaks[2000]:.0f} against {peaks[200]:.0f} MB",
    )


def grow(dataset: Path, target: Path, slices: int) -> Path:
    """Returns a copy of a dataset with as many slices, of further patients where it has too few."""
    import pandas as pd

    manifest = pd.read_parquet(dataset / "manifest.parquet")
    rows = []
    for copy in range(-(-slices // len(manifest))):
        more = manifest.copy()
        more["patient"] += f"-{copy}"
        more["slice_id"] += f".{copy}"
        more["content_hash"] = [f"{copy:04}{content[4:]}" for content in more["content_hash"]]
        rows.append(more)
    target.mkdir()
    (target / "slices").symlink_to(dataset / "slices")
    shutil.copy(dataset / "source.json", target)
    pd.concat(rows).head(slices).to_parquet(target / "manifest.parquet", index=False)
    return target


def preprocessing_peak_mb(dataset: Path, tensors: Path) -> float:
    """Returns this process's peak memory after preprocessing, in MB."""
    preprocess(dataset, write_validation(tensors.parent), tensors)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_validation(folder: Path) -> Path:
    """Returns a validation, below `folder`, that lets everything pass."""
    validation = folder / "validation"
    validation.mkdir(exist_ok=True)
    (validation / "report.json").write_text(
        '{"errors": [], "warnings": [], "expectations": [], "statistics": {}}'
    )
    return validation


def preprocess(dataset: Path, validation: Path, tensors: Path, parts: Sequence[Path] = ()) -> None:
    """Runs the step into a new folder: alone, or joining parts."""
    from tumorflow.params import PreprocessParams
    from tumorflow.preprocessing import step
    from tumorflow.tracker import Untracked

    tensors.mkdir()
    step.run(
        PreprocessParams(),
        dataset=dataset,
        validation=validation,
        tensors=tensors,
        parts=parts,
        tracker=Untracked(),
    )


def prepare_part(dataset: Path, validation: Path, part: Path, number: int, of: int) -> None:
    """Prepares one part in a new folder."""
    from tumorflow.params import PreprocessParams
    from tumorflow.preprocessing import part_step
    from tumorflow.tracker import Untracked

    part.mkdir(parents=True)
    part_step.run(
        PreprocessParams(),
        dataset=dataset,
        validation=validation,
        part=part,
        number=str(number),
        of=str(of),
        tracker=Untracked(),
    )


def bench_parts(scratch: Path) -> None:
    """Preprocessing in four parts, two at a time, against one part; each part and join in its own process."""
    dataset = grow(sample_dataset(scratch, patients=40, slices=5), scratch / "grown", PARTS_SLICES)
    validation = write_validation(scratch)
    best: dict[int, tuple[float, float]] = {}
    for of in (1, PARTS) * PARTS_ROUNDS:
        parts = [scratch / "parts" / str(number) for number in range(of)]
        started = time.perf_counter()
        with ThreadPoolExecutor(PARTS_AT_A_TIME) as pool:
            waiting = [
                pool.submit(in_process, prepare_part, dataset, validation, part, number, of)
                for number, part in enumerate(parts)
            ]
            for part_done in waiting:
                part_done.result()
        prepared = time.perf_counter()
        in_process(preprocess, dataset, validation, scratch / "tensors", parts)
        seconds = (prepared - started, time.perf_counter() - prepared)
        best[of] = min(best.get(of, seconds), seconds, key=sum)
        shutil.rmtree(scratch / "parts")
        shutil.rmtree(scratch / "tensors")
    (alone, alone_join), (shared, shared_join) = best[1], best[PARTS]
    at = f"at {PARTS_SLICES:,} slices, processes' starts included"
    tell(
        "preparing slices, four parts on two cores against one",
        alone / shared,
        "≥ 1.6",
        f"{PARTS_SLICES / shared:.0f} against {PARTS_SLICES / alone:.0f} slices/s {at}",
    )
    tell(
        "the same with the join, which no part shares",
        (alone + alone_join) / (shared + shared_join),
        "",
        f"{shared + shared_join:.1f} against {alone + alone_join:.1f} s, of these the join "
        f"{shared_join:.1f} and {alone_join:.1f} s",
    )


def in_process(work: Callable[..., None], *arguments: object) -> None:
    """Does some work in a new process."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{work.__name__} ended with {process.exitcode}")


def bench_unchanged(scratch: Path) -> None:
    """The unchanged second run, as its user starts it."""
    from tumorflow.params import SampleParams
    from tumorflow.sampling.cohort import write_cohort

    (scratch / "data").mkdir()
    write_cohort(SampleParams(), scratch / "data")
    command = [TUMORFLOW, "run", "--set", "train.epochs=2", "--set", "train.augmented_views=0"]
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        seconds.append(time.perf_counter() - started)
        if done.returncode not in (0, 3):
            raise SystemExit(done.stdout + done.stderr)
    tell(
        "the unchanged second run against the first",
        seconds[1] / seconds[0],
        "≤ 5 s",
        f"{seconds[1]:.1f} s against {seconds[0]:.1f} s",
    )


def bench_overhead(scratch: Path) -> None:
    """What kfp, the summary and MLflow's end of the run add to the steps; and what containers add to that."""
    from tumorflow.params import SampleParams
    from tumorflow.sampling.cohort import write_cohort

    (scratch / "data").mkdir()
    write_cohort(SampleParams(), scratch / "data")
    wall_s, own_s = run_whole(scratch, "process")
    overhead_s = wall_s - sum(own_s)
    tell(
        "orchestration in process, seconds a step",
        overhead_s / len(own_s),
        "≤ 1",
        f"{wall_s:.1f} s in all, {sum(own_s):.1f} s in {len(own_s)} steps",
    )
    if not any(shutil.which(engine) for engine in ("docker", "podman")):
        print("containers: skipped, there is no docker or podman")
        return
    contained_s, _ = run_whole(scratch, "docker")
    tell(
        "steps in containers against in process, seconds a step more",
        (contained_s - wall_s) / len(own_s),
        "≤ 5",
        f"{contained_s:.1f} s against {wall_s:.1f} s",
    )


def run_whole(scratch: Path, runner: str) -> tuple[float, list[float]]:
    """Returns the seconds of a run with nothing in its cache, and those that each step says it took."""
    started = time.perf_counter()
    command = [TUMORFLOW, "run", "--runner", runner, "--runs", f"runs-{runner}"]
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
    wall_s = time.perf_counter() - started
    if done.returncode not in (0, 3):
        raise SystemExit(done.stdout + done.stderr)
    return wall_s, [
        float(found) for found in re.findall(r"^\w+: done in ([\d.]+) s$", done.stdout, re.MULTILINE)
    ]


def bench_rebuild(scratch: Path) -> None:
    """The images after a change of code, from a warm cache."""
    if not any(shutil.which(engine) for engine in ("docker", "podman", "buildah")):
        print("rebuilding images: skipped, there is no container engine")
        return
    copy = scratch / "checkout"
    shutil.copytree(
        CHECKOUT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "runs", "data", "build", "__pycache__")
    )
    seconds = []
    for turn in range(2):
        with (copy / "components" / "tumorflow" / "errors.py").open("a") as file:
            file.write(f"# change {turn} of {time.time_ns()}\n")
        started = time.perf_counter()
        environment = {**os.environ, "REGISTRY": "localhost/bench", "GIT_COMMIT": f"bench-{turn}"}
        done = subprocess.run(
            [str(copy / "components" / "images.sh")],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds.append(time.perf_counter() - started)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
    tell(
        "all images after a change of code, seconds", seconds[1], "≤ 20", f"{seconds[0]:.1f} s the first time"
    )


def bench_registry(scratch: Path) -> None:
    """The cost of the review's policy on the registry's server."""
    from registry_load import describe, measure

    cost, sides = describe(*measure(scratch))
    tell("policy on search_model_versions, cost of throughput", cost, "< 0.10", sides)


def bench_serving(scratch: Path) -> None:
    """The service against the article's, against TensorFlow in its place, and against the bare model."""
    from serving_load import bench

    dataset = sample_dataset(scratch, patients=6, slices=3)
    bench(tell, next(dataset.rglob("*.dcm")), scratch)


def bench_iqoth(scratch: Path) -> None:
    """IQ-OTH/NCCD: grouped test results over several splits, against the simple baseline."""
    if not IQOTH.is_dir():
        print(f"IQ-OTH/NCCD: skipped, there is no {IQOTH}")
        return
    scores: dict[str, list[float]] = {"macro_f1": [], "recall_benign": []}
    for seed in SPLIT_SEEDS:
        command = [
            TUMORFLOW,
            "run",
            "--source",
            str(IQOTH),
            "--preset",
            "iqoth_nccd",
            "--set",
            f"preprocess.seed={seed}",
        ]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 3):
            raise SystemExit(done.stdout + done.stderr)
        metrics = json.loads((scratch / "runs/latest/summary.json").read_text())["metrics"]
        for name, values in scores.items():
            values.append(metrics[name]["value"])
    for name, baseline in (("macro_f1", 0.707), ("recall_benign", 0.44)):
        values = scores[name]
        each = ", ".join(f"{value:.3f}" for value in values)
        tell(
            f"IQ-OTH/NCCD {name} against the simple baseline",
            mean(values) / baseline,
            "≥ 1",
            f"{mean(values):.3f} ± {stdev(values):.3f} over {len(values)} grouped splits ({each}); "
            f"baseline {baseline}",
        )


BENCHES = {
    "preprocessing": bench_preprocessing,
    "head": bench_head,
    "memory": bench_memory,
    "parts": bench_parts,
    "unchanged": bench_unchanged,
    "overhead": bench_overhead,
    "rebuild": bench_rebuild,
    "registry": bench_registry,
    "serving": bench_serving,
    "iqoth": bench_iqoth,
}

if __name__ == "__main__":
    sys.exit(main())
