"""The formats that the Format suite runs over, each beside a rendering that is not ours.

A family is added by one `FormatCase` in a list of `CASES`: how to make it, a context, the real template (or an oracle) to
compare with, special tokens, a vocabulary, what conversations it can express, and what it writes otherwise on purpose.
"""

from collections.abc import Callable, Sequence

from tests.contracts.deepseek_cases import DEEPSEEK_CASES
from tests.contracts.format_case import BRIEF, FormatCase, real
from tests.contracts.generic_cases import GENERIC_CASES
from tests.contracts.kimi_cases import KIMI_CASES
from tests.contracts.llama_cases import LLAMA_CASES
from tests.contracts.mistral_cases import MISTRAL_CASES
from tests.contracts.qwen_cases import QWEN_CASES
from tests.contracts.tagged_cases import TAGGED_CASES
from tests.support import harmony_oracle, qwen_oracle
from tests.support.conversations import TOOLS
from tests.support.dialogues import Shape
from tests.support.toy_tokenizer import QWEN_SPECIALS
from tests.support.vocabularies import HARMONY_IDS, gguf, o200k_harmony

from hotloop.formats import format_named
from hotloop.formats.registry import QWEN_SYSTEM
from hotloop.protocol.items import Item
from hotloop.seams.prompt import PromptContext
from hotloop.seams.tokenizer import Tokenizer

# --- ChatML ---


def _qwen(
    name: str, family: str, context: PromptContext, *, thinks: bool = False, specials: Sequence[str] = QWEN_SPECIALS
) -> FormatCase:
    oracle = qwen_oracle.Family(family == "qwen3", QWEN_SYSTEM if family == "qwen2.5" else None)

    def render(items: Sequence[Item], *, generate: bool = False) -> str:
        return qwen_oracle.render(oracle, context, items, generate=generate)

    shape = Shape(anything=True, reasoning=thinks)
    return FormatCase(
        name=name,
        make=lambda tokenizer: format_named(family, tokenizer),
        context=context,
        render=render,
        shape=shape,
        specials=specials,
    )


_QWEN25_SPECIALS = tuple(special for special in QWEN_SPECIALS if "think" not in special and "response" not in special)
_BARE_SPECIALS = ("<|im_start|>", "<|im_end|>")

CHATML_CASES = [
    _qwen("chatml", "chatml", BRIEF),
    _qwen("chatml-bare", "chatml", PromptContext(), specials=_BARE_SPECIALS),
    _qwen("qwen2.5", "qwen2.5", PromptContext(None, TOOLS), specials=_QWEN25_SPECIALS),
    _qwen("qwen3", "qwen3", BRIEF, thinks=True),
    _qwen("qwen3-off", "qwen3", PromptContext("Be brief.", TOOLS, reasoning_effort="none")),
    _qwen("qwen3-keep", "qwen3", PromptContext(None, TOOLS, keep_reasoning=True), thinks=True),
    _qwen("qwen3-spelled", "qwen3", PromptContext("x", TOOLS), thinks=True, specials=_BARE_SPECIALS),
    FormatCase(
        name="qwen2.5-real",
        make=lambda tokenizer: format_named("qwen2.5", tokenizer),
        context=BRIEF,
        render=real("Qwen-Qwen2.5-7B-Instruct", BRIEF),
        # The template reads arguments as objects.
        shape=Shape(escaped_arguments=False),
        specials=_QWEN25_SPECIALS,
        vocabulary=lambda: gguf("qwen2"),
    ),
]

# --- Harmony ---


def _harmony(
    name: str,
    context: PromptContext,
    shape: Shape,
    *,
    vocabulary: Callable[[], Tokenizer] | None = None,
    effort: str = "medium",
) -> FormatCase:
    def render(items: Sequence[Item], *, generate: bool = False) -> str:
        return harmony_oracle.render(context, items, generate=generate, effort=effort)

    return FormatCase(
        name=name,
        make=lambda tokenizer: format_named("harmony", tokenizer),
        context=context,
        render=render,
        shape=shape,
        specials=tuple(HARMONY_IDS),
        vocabulary=vocabulary,
        keeps_stop_token=False,  # `<|return|>` is `<|end|>` in every later turn
        drops_at_answer=not context.keep_reasoning,
        deviations=("no line with the current date",),
    )


_HARMONY_SHAPE = Shape(reasoning=True, parallel=False, text_with_calls=False, developer=False, phase="final_answer")
_HARMONY_ANY = Shape(anything=True, reasoning=True, phase="final_answer")

HARMONY_CASES = [
    _harmony("harmony", BRIEF, _HARMONY_ANY),
    _harmony("harmony-bare", PromptContext(reasoning_effort="high"), _HARMONY_ANY, effort="high"),
    _harmony("harmony-keep", PromptContext(None, TOOLS, keep_reasoning=True), _HARMONY_ANY),
    _harmony("harmony-real", BRIEF, _HARMONY_SHAPE, vocabulary=o200k_harmony),
]

FAMILIES: dict[str, list[FormatCase]] = {
    "chatml": [*CHATML_CASES, *QWEN_CASES],
    "harmony": HARMONY_CASES,
    "mistral": MISTRAL_CASES,
    "generic": GENERIC_CASES,
    "deepseek": DEEPSEEK_CASES,
    "kimi": KIMI_CASES,
    "qwen-xml": [case for case in TAGGED_CASES if case.name.startswith("qwen")],
    "glm": [case for case in TAGGED_CASES if not case.name.startswith("qwen")],
    "llama": LLAMA_CASES,
}
CASES = [case for cases in FAMILIES.values() for case in cases]

# Cases that run in full in `make test`: one for each renderer and parser. The others have the same code in another mode or over
# another vocabulary, and run SECONDARY_EXAMPLES; together they would take four of the ten minutes.
PRIMARY = frozenset(
    [
        "chatml", "qwen3", "harmony", "mistral-nemo", "mistral-small", "devstral", "ministral", "deepseek-r1-toy",
        "deepseek-v3.1-thinking", "deepseek-v3.2-thinking", "deepseek-v4-thinking", "kimi-k2-toy", "kimi-k2-thinking-toy",
        "qwen3-coder-spelled", "qwen3.5", "glm-4.6", "glm-4.7", "llama3.1",
    ]
)  # fmt: skip
SECONDARY_EXAMPLES = 20


def examples_of(case: FormatCase, *, quick: int, long: int | None) -> int:
    """How often a property is tried on `case`: `quick` times in `make test`, less for secondary and slow cases.

    `long`: in `make test-long`, times a family; its cases share them, for they share its code.
    """
    if long is not None:
        return -(-long // next(len(cases) for cases in FAMILIES.values() if case in cases))
    secondary = quick if case.name in PRIMARY else SECONDARY_EXAMPLES
    return min(quick, secondary if case.examples is None else case.examples)
