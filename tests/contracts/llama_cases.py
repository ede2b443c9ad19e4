"""Cases of the Format suite for Llama 3.x, against the templates of 3.1, 3.2 and 3.3."""

from dataclasses import replace

from tests.contracts.format_case import BRIEF, FormatCase, real
from tests.support.conversations import TOOLS
from tests.support.dialogues import Shape, is_stripped
from tests.support.real_templates import Style
from tests.support.vocabularies import gguf

from hotloop.formats import format_named
from hotloop.seams.prompt import PromptContext

LLAMA_SPECIALS = (
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|end_of_text|>",
)
# Every item is a message of its own. A text that begins with a brace may be a call, and is read as one.
_SHAPE = Shape(
    parallel=False,
    text_with_calls=False,
    developer=False,
    said=lambda text: is_stripped(text) and not text.startswith("{"),
)
_STYLE = Style(
    reasoning=None,
    joins={"reasoning": frozenset(), "text": frozenset(), "call": frozenset()},
    variables={"bos_token": "<|begin_of_text|>", "date_string": "26 Jul 2024"},
)


def _llama(name: str, template: str, context: PromptContext) -> FormatCase:
    return FormatCase(
        name=name,
        make=lambda tokenizer: format_named("llama3", tokenizer),
        context=context,
        render=real(template, context, _STYLE),
        shape=replace(_SHAPE, calls=bool(context.tools)),  # without tools, what looks like a call is text
        specials=LLAMA_SPECIALS,
        vocabulary=lambda: gguf("llama-bpe"),
        deviations=("the date is the default of the 3.1 template, also for 3.2",),
    )


LLAMA_CASES = [
    _llama("llama3.1", "meta-llama-Llama-3.1-8B-Instruct", BRIEF),
    _llama("llama3.2", "meta-llama-Llama-3.2-3B-Instruct", PromptContext(None, TOOLS)),
    _llama("llama3.3", "meta-llama-Llama-3.3-70B-Instruct", PromptContext("Be brief.")),
]
