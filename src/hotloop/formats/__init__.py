"""Model families: how each writes a conversation and how its output is read back.

    registry                      picks the format that fits a model's chat template
    families       generic        a model family each; any other template
    bases                         what several families do alike
    grammar        parsing        what an output must fit; from ids to items
    writing                       from items to tokens

Imports point down, and never from one family to another.
"""

from hotloop.formats.bases.chat.format import ChatFormat
from hotloop.formats.families.chatml.dialect import chatml
from hotloop.formats.generic.format import GenericFormat
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
