"""Model families: how each writes a conversation and how its output is read back."""

from hotloop.formats.chatml import ChatML
from hotloop.formats.registry import FAMILIES, UnknownFormat, family_of, format_for_template, format_named

__all__ = ["FAMILIES", "ChatML", "UnknownFormat", "family_of", "format_for_template", "format_named"]
