"""Harmony, the format of gpt-oss."""

from hotloop.formats.families.harmony.format import Harmony

__all__ = ["Harmony"]
