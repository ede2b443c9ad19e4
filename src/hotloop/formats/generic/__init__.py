"""Any chat template that is of none of the families."""

from hotloop.formats.generic.format import GenericFormat

__all__ = ["GenericFormat"]
