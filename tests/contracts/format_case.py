"""What the Format suite has to know of a format: how to make it, and a rendering that is not ours to compare with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from tests.support.conversations import TOOLS
from tests.support.dialogues import Shape
from tests.support.real_templates import Edit, RealTemplate, Style
from tests.support.toy_tokenizer import QWEN_SPECIALS
from tests.support.vocabularies import SpyTokenizer, toy

from hotloop.protocol.items import Item
from hotloop.protocol.tools import CustomTool
from hotloop.seams.format import Extension, Format
from hotloop.seams.prompt import PromptContext
from hotloop.seams.tokenizer import Tokenizer

BRIEF = PromptContext("Be brief.", TOOLS)


class Render(Protocol):
    """The text of a whole conversation, with the generation prompt if asked for."""

    def __call__(self, items: Sequence[Item], *, generate: bool = False) -> str: ...


@dataclass(frozen=True, kw_only=True)
class FormatCase:
    """One format in one mode.

    Args:
        name: of the case.
        make: the format for a tokenizer. It is made once per case: formats keep nothing about a chain.
        context: instructions and tools of every chain.
        render: what the text must be.
        shape: the conversations that `render` can express.
        specials: special tokens of the family, also mixed into every text.
        vocabulary: a real one; None: the toy vocabulary with `specials`.
        examples: of a property in `make test`, where the default would take too long; say why beside it.
        seams_are_marks: items end at special tokens, so that tokenizing item by item is tokenizing the whole.
        keeps_stop_token: the token a model stops with stays in the history.
        drops_at_answer: reasoning is dropped as soon as there is an answer behind it, not when the user asks something new.
        rewrites: the template itself rewrites history within a tool loop, so that chains rewind.
        deviations: what the format writes otherwise than the template, on purpose, one line each; `render` allows for it.
    """

    name: str
    make: Callable[[Tokenizer], Format]
    context: PromptContext
    render: Render
    shape: Shape
    specials: Sequence[str] = QWEN_SPECIALS
    vocabulary: Callable[[], Tokenizer] | None = None
    examples: int | None = None
    seams_are_marks: bool = True
    keeps_stop_token: bool = True
    drops_at_answer: bool = False
    rewrites: bool = False
    deviations: tuple[str, ...] = ()

    def tokenizer(self) -> SpyTokenizer:
        """A spy over the vocabulary; the vocabulary itself is shared."""
        specials = tuple(self.specials)
        return SpyTokenizer(toy(specials) if self.vocabulary is None else self.vocabulary(), specials)

    @property
    def marks(self) -> tuple[str, ...]:
        """Look-alikes that texts are mixed with."""
        return tuple(self.specials)

    @property
    def has_custom_tool(self) -> bool:
        """Calls of the custom tool come back as such."""
        return any(isinstance(tool, CustomTool) for tool in self.context.tools)

    @cached_property
    def shared_tokenizer(self) -> SpyTokenizer:
        """For tests that do not count."""
        return self.tokenizer()

    @cached_property
    def shared_format(self) -> Format:
        """The format over a tokenizer of its own, for tests that do not count."""
        return self.make(self.tokenizer())

    @cached_property
    def start(self) -> Extension:
        """What the shared format begins every chain with."""
        return self.shared_format.begin(self.context)


def real(template: str, context: PromptContext, style: Style | None = None, edits: Sequence[Edit] = ()) -> Render:
    """The rendering of a real template, with pieces of it replaced where the format writes something else on purpose."""
    oracle = RealTemplate(template, style, edits)

    def render(items: Sequence[Item], *, generate: bool = False) -> str:
        return oracle.render(context, items, generate=generate)

    return render
