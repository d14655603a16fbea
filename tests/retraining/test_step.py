import json
import shutil

import pandas as pd
import pytest

from tumorflow.errors import SourceError
from tumorflow.membership import describe_members
from tumorflow.params import RetrainParams
from tumorflow.retraining.step import run
from tumorflow.tracker import RegisteredVersion, Untracked

PARAMS = RetrainParams(min_new_patients=2)


class Registry(Untracked):
    """Has the champion tumorflow-ct/3, with the evidence in a folder."""

    def __init__(self, folder):
        self.folder, self.params, self.metrics = folder, {}, {}

    def log_params(self, params):
        self.params |= params

    def log_metrics(self, metrics, epoch=None):
        self.metrics |= metrics

    def find_champion(self, name):
        return RegisteredVersion(name, "3", ("champion",), "run-3", {"tumorflow.data_hash": "old"})

    def fetch_version(self, name, version, folder, files):
        assert (name, version) == ("tumorflow-ct", "3")
        for file in files:
            if (self.folder / file).is_file():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.folder / file, folder / file)
        return self.find_champion(name)


def write_dataset(folder, patients, data_hash="new", label="benign"):
    """Two slices a patient."""
    folder.mkdir()
    rows = [(patient, f"{patient}-{number}") for patient in patients for number in range(2)]
    manifest = pd.DataFrame(rows, columns=["patient", "content_hash"]).assign(label=label, sex="F")
    manifest.to_parquet(folder / "manifest.parquet")
    (folder / "source.json").write_text(json.dumps({"data_hash": data_hash}))
    return folder


@pytest.fixture
def registry(tmp_path):
    """Its champion has met the patients P0 to P3."""
    (tmp_path / "version" / "evidence").mkdir(parents=True)
    names = [f"P{number}" for number in range(4)]
    index = pd.DataFrame(
        {
            "split": ["train", "train", "validation", "test"],
            "group": names,
            "patient": names,
            "content_hash": [f"{name}-0" for name in names],
        }
    )
    describe_members(index).to_parquet(tmp_path / "version" / "evidence" / "groups.parquet")
    return Registry(tmp_path / "version")


def ask(dataset, registry, folder, params=PARAMS):
    folder.mkdir()
    returned = run(params, dataset=dataset, decision=folder, tracker=registry)
    written = json.loads((folder / "decision.json").read_text())
    assert written["decision"] == returned
    return written


def test_enough_new_patients_train(registry, tmp_path, capsys):
    dataset = write_dataset(tmp_path / "dataset", [f"P{number}" for number in range(6)])
    assert ask(dataset, registry, tmp_path / "decision") == {
        "decision": "train",
        "reason": "enough",
        "message": "Enough: 2 new patients since tumorflow-ct/3; at least 2 are asked.",
        "new_patients": 2,
        "known_patients": 4,
        "required": 2,
        "unit": "patients",
        "champion": "tumorflow-ct/3",
        "champion_recorded": True,
        "data_hash": "new",
        "champion_data_hash": "old",
    }
    assert "retraining: train. Enough: 2 new patients" in capsys.readouterr().out
    assert registry.metrics == {"new_patients": 2.0, "known_patients": 4.0, "required": 2.0}
    assert registry.params == {"decision": "train", "reason": "enough", "champion": "tumorflow-ct/3"}


@pytest.mark.parametrize(
    ("patients", "data_hash", "reason"),
    [
        (["P0", "P1", "P2", "P3", "P4"], "new", "too_few"),
        (["P0", "P3"], "new", "nothing_new"),
        (["P7", "P8", "P9"], "old", "nothing_new"),
    ],
)
def test_too_little_stops(registry, tmp_path, patients, data_hash, reason):
    dataset = write_dataset(tmp_path / "dataset", patients, data_hash)
    written = ask(dataset, registry, tmp_path / "decision")
    assert (written["decision"], written["reason"]) == ("stop", reason)


def test_slices_without_a_label_bring_nobody(registry, tmp_path):
    dataset = write_dataset(tmp_path / "dataset", ["P7", "P8", "P9"], label="")
    assert ask(dataset, registry, tmp_path / "decision")["new_patients"] == 0


def test_a_known_patient_under_a_new_pseudonym_is_known_by_the_slices(registry, tmp_path):
    dataset = write_dataset(tmp_path / "dataset", ["P0", "P1"])
    manifest = pd.read_parquet(dataset / "manifest.parquet")
    manifest["patient"] = "other-" + manifest["patient"]
    manifest.to_parquet(dataset / "manifest.parquet")
    written = ask(dataset, registry, tmp_path / "decision")
    assert (written["new_patients"], written["known_patients"]) == (0, 2)


def test_without_patients_slices_are_counted(registry, tmp_path):
    dataset = write_dataset(tmp_path / "dataset", ["P0", "P8"])
    manifest = pd.read_parquet(dataset / "manifest.parquet").assign(patient="")
    manifest.to_parquet(dataset / "manifest.parquet")
    written = ask(dataset, registry, tmp_path / "decision")
    assert (written["unit"], written["new_patients"], written["known_patients"]) == ("slices", 3, 1)


def test_a_champion_without_record_knows_nobody(registry, tmp_path):
    (registry.folder / "evidence" / "groups.parquet").unlink()
    dataset = write_dataset(tmp_path / "dataset", ["P0", "P1"])
    written = ask(dataset, registry, tmp_path / "decision")
    assert (written["decision"], written["new_patients"], written["champion_recorded"]) == ("train", 2, False)


def test_without_a_champion_the_first_model_is_trained(tmp_path):
    dataset = write_dataset(tmp_path / "dataset", ["P0"])
    written = ask(dataset, Untracked(), tmp_path / "decision")
    assert (written["decision"], written["reason"], written["champion"]) == ("train", "no_champion", "")


def test_no_patient_is_named(registry, tmp_path):
    dataset = write_dataset(tmp_path / "dataset", ["P-0123456789abcdef", "P0"])
    ask(dataset, registry, tmp_path / "decision")
    assert "P-0123" not in (tmp_path / "decision" / "decision.json").read_text()


def test_a_missing_manifest_is_refused(registry, tmp_path):
    (tmp_path / "dataset").mkdir()
    with pytest.raises(SourceError, match=r"readable manifest\.parquet"):
        ask(tmp_path / "dataset", registry, tmp_path / "decision")
