"""DeepSeek R1 to V4."""

from hotloop.formats.families.deepseek.v3 import deepseek_r1, deepseek_v31, deepseek_v32
from hotloop.formats.families.deepseek.v4 import deepseek_v4, deepseek_v4_flash

__all__ = ["deepseek_r1", "deepseek_v4", "deepseek_v4_flash", "deepseek_v31", "deepseek_v32"]
