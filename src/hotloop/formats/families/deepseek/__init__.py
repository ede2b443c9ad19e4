"""DeepSeek R1 to V4."""

from hotloop.formats.families.deepseek.v3 import R1, V31, V32
from hotloop.formats.families.deepseek.v4 import V4, V4_FLASH

__all__ = ["R1", "V4", "V4_FLASH", "V31", "V32"]
