"""Databases that a registry may have: SQLite, and a true PostgreSQL where Debian's is installed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine


@pytest.fixture
def postgresql_uri(make_postgresql_database: Callable[[], str]) -> str:
    """The address of an empty database of PostgreSQL."""
    return make_postgresql_database()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/mlflow.db"
    return str(request.getfixturevalue("postgresql_uri"))


@pytest.fixture
def engine(database_uri: str) -> Iterator[Engine]:
    """An engine of an empty database of either kind."""
    made = create_engine(database_uri, connect_args={"timeout": 60} if "sqlite" in database_uri else {})
    yield made
    made.dispose()
