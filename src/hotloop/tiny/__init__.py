"""The demonstration model: a few megabytes that repair small Python projects and do nothing else, see MODEL_CARD.md."""

from importlib.resources import files
from pathlib import Path

MODEL_NAME = "tiny"


def model_path() -> Path:
    """Where the model file lies. The package is installed as plain files: engines map the file into memory."""
    return Path(str(files(__name__) / "tiny.gguf"))
