"""A server with accounts of every role, for a module's tests."""

from collections.abc import Iterator

import pytest
from servers import Registry, make_registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    server = make_registry(tmp_path_factory.mktemp("registry"))
    server.start()
    try:
        server.make_accounts()
        yield server
    finally:
        server.kill()
