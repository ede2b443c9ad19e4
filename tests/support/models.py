"""Model files for tests, as fixtures: import the fixture's name in a conftest."""

from pathlib import Path

import pytest
from tests.support.random_gguf import write_random_gguf


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ChatML vocabulary with random weights and a context of 4,096."""
    return write_random_gguf(tmp_path_factory.mktemp("model") / "random.gguf")
