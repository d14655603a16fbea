"""A server with accounts of every role, for a module's tests."""

from collections.abc import Iterator

import pytest
from servers import Registry, running_registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as server:
        yield server
