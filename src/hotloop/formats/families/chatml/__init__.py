"""ChatML, with Qwen's calls in JSON or in XML."""

from hotloop.formats.families.chatml.dialect import ChatML, chatml
from hotloop.formats.families.chatml.qwen_xml import CODER_SYSTEM, QWEN3_CODER, QWEN35

__all__ = ["CODER_SYSTEM", "QWEN3_CODER", "QWEN35", "ChatML", "chatml"]
