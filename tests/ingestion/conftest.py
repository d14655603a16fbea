"""An ingestion that is one call."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ct_files import IDENTIFIERS, build_ct, encode_ct

from tumorflow.params import IngestParams
from tumorflow.tracker import Untracked

KEY = "8f3a1c5e7092b4d6f81e3a5c7d9b0f2e"


@pytest.fixture(autouse=True)
def _pseudonym_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUMORFLOW_PSEUDONYM_KEY", KEY)


@pytest.fixture
def ct() -> SimpleNamespace:
    return SimpleNamespace(build=build_ct, encode=encode_ct, identifiers=IDENTIFIERS)


@pytest.fixture
def ingest(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., SimpleNamespace]:
    """Ingests a folder and returns what was written: manifest rows, refusals, summary, folder."""
    import csv

    import pyarrow.parquet

    from tumorflow.ingestion.step import run

    def ingest(source: Path, key_id: str = "", tracker: Any = None, **params: Any) -> SimpleNamespace:
        folder = tmp_path_factory.mktemp("dataset")
        settings = IngestParams(**({"max_quarantined_fraction": 1.0} | params))
        returned = run(
            settings,
            source=str(source),
            data_hash="abc",
            key_id=key_id,
            dataset=folder,
            tracker=tracker or Untracked(),
        )
        assert returned == ""
        with (folder / "quarantine.csv").open(newline="") as file:
            refused = list(csv.DictReader(file))
        rows = pyarrow.parquet.read_table(folder / "manifest.parquet").to_pylist()
        summary = json.loads((folder / "source.json").read_text())
        return SimpleNamespace(folder=folder, rows=rows, refused=refused, summary=summary)

    return ingest
