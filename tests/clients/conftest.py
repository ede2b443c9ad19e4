"""One scripted server per file of tests."""

from collections.abc import Generator

import pytest
from tests.clients.weather import SCRIPT
from tests.support.real_clients import scripted
from tests.support.served_command import Served


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    with scripted(tmp_path_factory.mktemp("server"), SCRIPT) as running:
        yield running
