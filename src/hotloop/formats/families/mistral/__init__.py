"""Mistral's instruct models with the tekken vocabulary."""

from hotloop.formats.families.mistral.default_system import default_system
from hotloop.formats.families.mistral.format import Mistral
from hotloop.formats.families.mistral.text import V3, V11, V13, V13_THINKING, Version

__all__ = ["V3", "V11", "V13", "V13_THINKING", "Mistral", "Version", "default_system"]
