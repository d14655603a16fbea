"""Runs inside an image: loads every module that its steps can come to import, inside functions too.

Prints what could not be loaded, one line each.
"""

import ast
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from tumorflow.chain import ALL_STEPS
from tumorflow.lineage import code_files

ABSENT = {  # the harness is code of every step; registering a model and reading a source are some steps' work
    "light": {"keras", "tensorflow", "mlflow.tensorflow"},
    "tensorflow": {"dulwich", "dvc", "scmrepo"},  # reading a source is code of every step, too
}


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Yields (module, name imported from it or nothing)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)


def load(module: str, name: str) -> None:
    """Loads a module, and the name in it or below it."""
    loaded = importlib.import_module(module)
    if name and not hasattr(loaded, name):
        importlib.import_module(f"{module}.{name}")


def main(image: str) -> None:
    """Tries every import of every step of an image."""
    os.environ["_KFP_RUNTIME"] = (
        "true"  # as in the command of every component: the executor without the compiler
    )
    files = {path for step in ALL_STEPS if step.image == image for path in code_files(step)}
    wanted = {pair for path in files if path.suffix == ".py" for pair in imports(path)}
    wanted |= {(step.module, "") for step in ALL_STEPS if step.image == image}
    wanted |= {("kfp.dsl.executor_main", ""), ("kfp", "dsl"), ("mlflow.store.tracking.sqlalchemy_store", "")}
    if image == "light":  # where data comes from beside folders
        wanted |= {
            ("boto3", ""),
            ("dvc.api", "DVCFileSystem"),
            ("dvc_s3", "S3FileSystem"),
            ("s3fs", ""),
        }
    for module, name in sorted(wanted):
        if ABSENT[image] & {module, module.split(".")[0]}:
            continue
        try:
            load(module, name)
        except ImportError as error:
            print(f"{module}.{name}: {error}")


if __name__ == "__main__":
    main(sys.argv[1])
