"""Lists of words and sentences, one per line in the text files beside this module."""

from pathlib import Path


def phrases(name: str) -> tuple[str, ...]:
    """The lines of one list."""
    return tuple((Path(__file__).parent / f"{name}.txt").read_text().splitlines())
