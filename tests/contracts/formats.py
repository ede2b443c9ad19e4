"""The formats that the Format suite runs over, each beside an independent rendering of the same family."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.support import qwen_oracle
from tests.support.conversations import TOOLS
from tests.support.toy_tokenizer import QWEN_SPECIALS, ToyTokenizer

from hotloop.formats import format_named
from hotloop.formats.registry import QWEN_SYSTEM
from hotloop.protocol.items import Item
from hotloop.seams.format import Format
from hotloop.seams.prompt import PromptContext
from hotloop.seams.tokenizer import Tokenizer


@dataclass(frozen=True)
class FormatCase:
    """One format in one mode. `render` is the oracle's text, with the generation prompt if asked for."""

    name: str
    make: Callable[[Tokenizer], Format]
    context: PromptContext
    render: Callable[..., str]
    thinks: bool  # reasoning items may come out of it
    specials: Sequence[str] = QWEN_SPECIALS

    def tokenizer(self) -> ToyTokenizer:
        return ToyTokenizer(self.specials)


def _qwen(
    name: str, family: str, context: PromptContext, *, thinks: bool = False, specials: Sequence[str] = QWEN_SPECIALS
) -> FormatCase:
    oracle = qwen_oracle.Family(family == "qwen3", QWEN_SYSTEM if family == "qwen2.5" else None)

    def render(items: Sequence[Item], *, generate: bool = False) -> str:
        return qwen_oracle.render(oracle, context, items, generate=generate)

    return FormatCase(name, lambda tokenizer: format_named(family, tokenizer), context, render, thinks, specials)


_QWEN25_SPECIALS = tuple(special for special in QWEN_SPECIALS if "think" not in special and "response" not in special)
_BARE_SPECIALS = ("<|im_start|>", "<|im_end|>")
_BRIEF = PromptContext("Be brief.", TOOLS)

CASES = [
    _qwen("chatml", "chatml", _BRIEF),
    _qwen("chatml-bare", "chatml", PromptContext(), specials=_BARE_SPECIALS),
    _qwen("qwen2.5", "qwen2.5", PromptContext(None, TOOLS), specials=_QWEN25_SPECIALS),
    _qwen("qwen3", "qwen3", _BRIEF, thinks=True),
    _qwen("qwen3-off", "qwen3", PromptContext("Be brief.", TOOLS, reasoning_effort="none")),
    _qwen("qwen3-keep", "qwen3", PromptContext(None, TOOLS, keep_reasoning=True), thinks=True),
    _qwen("qwen3-spelled", "qwen3", PromptContext("x", TOOLS), thinks=True, specials=_BARE_SPECIALS),
]
