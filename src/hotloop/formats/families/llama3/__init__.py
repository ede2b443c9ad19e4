"""Llama 3.1, 3.2 and 3.3."""

from hotloop.formats.families.llama3.format import Llama3

__all__ = ["Llama3"]
