"""The decisions of the scripts that the pods run; what they do to servers is tested with servers."""

import importlib.util
from pathlib import Path
from types import ModuleType

BASE = Path(__file__).parents[2] / "k8s" / "base"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BASE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BACKUPS = [f"backups/mlflow-2026010{day}T021700Z.dump" for day in (3, 1, 2)]


def test_the_oldest_backups_beyond_the_number_go() -> None:
    expired = load("transfer_backup").expired
    assert expired(BACKUPS, 2) == ["backups/mlflow-20260101T021700Z.dump"]
    assert expired(BACKUPS, 3) == []


def test_the_newest_backup_and_what_is_none_always_stay() -> None:
    expired = load("transfer_backup").expired
    assert "backups/mlflow-20260103T021700Z.dump" not in expired(BACKUPS, 0)
    assert expired([*BACKUPS, "backups/mlflow-notes.txt"], 3) == []
