"""Model families: how each writes a conversation and how its output is read back."""

from hotloop.formats.chat_format import ChatFormat
from hotloop.formats.chatml import chatml
from hotloop.formats.generic import GenericFormat
from hotloop.formats.registry import FAMILIES, UnknownFormat, family_of, format_for_template, format_named

__all__ = [
    "FAMILIES",
    "ChatFormat",
    "GenericFormat",
    "UnknownFormat",
    "chatml",
    "family_of",
    "format_for_template",
    "format_named",
]
