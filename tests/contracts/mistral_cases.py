"""Mistral's formats beside the real templates, over the real vocabulary."""

from collections.abc import Callable
from dataclasses import replace

from tests.contracts.format_case import BRIEF, FormatCase, real
from tests.support import mistral_oracle
from tests.support.conversations import TOOLS
from tests.support.dialogues import Shape
from tests.support.real_templates import Style, template_source
from tests.support.vocabularies import MISTRAL_MARKS, tekken

from hotloop.formats import format_for_template
from hotloop.seams.prompt import PromptContext
from hotloop.seams.tokenizer import Tokenizer


def _mistral(
    name: str,
    template: str,
    context: PromptContext,
    shape: Shape,
    style: Style,
    *,
    deviations: tuple[str, ...] = (),
    vocabulary: Callable[[], Tokenizer] | None = tekken,
) -> FormatCase:
    return FormatCase(
        name=name,
        make=lambda tokenizer: format_for_template(template_source(template), tokenizer),
        context=context,
        render=real(template, context, style),
        shape=shape,
        specials=MISTRAL_MARKS,
        vocabulary=vocabulary,
        deviations=deviations,
    )


_MISTRAL_SHAPE = Shape(
    developer=False,
    questions_in_a_row=False,
    question_after_outputs=False,
    text_with_calls=False,
    call_id=lambda index, _name: f"call{index:05}",
)
_MISTRAL_FREE = replace(_MISTRAL_SHAPE, text_with_calls=True, question_after_outputs=True, questions_in_a_row=True)
_NEMO, _SMALL = "mistralai-Mistral-Nemo-Instruct-2407", "Mistral-Small-3.2-24B-Instruct-2506"
_DEVSTRAL, _MINISTRAL = "unsloth-mistral-Devstral-Small-2507", "mistralai-Ministral-3-14B-Reasoning-2512"
_MOVED = ("a question in the words of the last one has no tools",)
_SYSTEM_STAYS = ("instructions stay with the last question",)

MISTRAL_CASES = [
    _mistral("mistral-nemo", _NEMO, BRIEF, _MISTRAL_SHAPE, mistral_oracle.NEMO, deviations=_MOVED + _SYSTEM_STAYS),
    _mistral("mistral-nemo-bare", _NEMO, PromptContext(), _MISTRAL_SHAPE, mistral_oracle.NEMO),
    _mistral("mistral-small", _SMALL, BRIEF, _MISTRAL_SHAPE, mistral_oracle.SMALL, deviations=_MOVED),
    _mistral(
        "devstral",
        _DEVSTRAL,
        PromptContext(None, TOOLS),
        replace(_MISTRAL_FREE, developer=True),
        mistral_oracle.DEVSTRAL,
    ),
    _mistral(
        "ministral",
        _MINISTRAL,
        PromptContext(None, TOOLS),
        replace(_MISTRAL_SHAPE, text_with_calls=True, reasoning=True),
        mistral_oracle.MINISTRAL,
    ),
]
