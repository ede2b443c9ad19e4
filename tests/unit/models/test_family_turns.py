"""Turns of the families whose history or prompt is unlike ChatML's, over the toy engine: what is sent, kept, and counted."""

import asyncio
from collections.abc import Sequence

from tests.support.toy_engine import ToyEngine
from tests.support.toy_tokenizer import ToyTokenizer
from tests.support.vocabularies import HARMONY_IDS, MISTRAL_MARKS, SpyTokenizer

from hotloop.formats import format_named
from hotloop.models.token_model import TokenModel
from hotloop.protocol.items import FunctionCall, FunctionCallOutput, Item, Message, OutputText, Reasoning, ReasoningText
from hotloop.protocol.tools import decode_tools
from hotloop.seams.model import ModelRequest, SamplingWishes
from hotloop.seams.prompt import CallRules, PromptContext
from hotloop.session.chain import ModelState
from hotloop.session.item_log import ItemLog
from hotloop.session.principal import LOCAL

LS = decode_tools(b'[{"type":"function","name":"ls"}]')


class Talk:
    """A conversation: each `say` is one turn in which the model answers with `answer`."""

    def __init__(self, family: str, specials: Sequence[str], context: PromptContext) -> None:
        self.spy = SpyTokenizer(ToyTokenizer(specials), specials)
        self.engine = ToyEngine(lambda _prompt: self.sampled)
        self.format = format_named(family, self.spy)
        self.model = TokenModel("m", format=self.format, tokenizer=self.spy, engine=self.engine)
        self.context = context
        self.items = ItemLog()
        self.state: ModelState | None = None
        self.sampled: Sequence[int] = []

    async def say(self, *new: Item, answer: Sequence[Item]) -> list[str]:
        """One turn; the names of its fallbacks."""
        self.sampled = self.format.encode_items(self.context, answer)
        request = ModelRequest(
            tenant=LOCAL,
            context=self.context,
            rules=CallRules(),
            wishes=SamplingWishes(),
            history=self.items,
            new_items=new,
            parent=self.state,
            generate=bool(answer),
        )
        turn = await self.model.prepare(request)
        over = asyncio.Event()
        turn.start(lambda _events: None, lambda _end: over.set())
        await asyncio.wait_for(over.wait(), timeout=60)
        self.state = turn.commit(answer)
        self.items = self.items.extended(new).extended(answer)
        return turn.fallbacks

    @property
    def prompt(self) -> str:
        """What the model saw last."""
        return self.spy.decode(self.engine.runs[-1].prompt)

    @property
    def sent(self) -> str:
        """What of it was new to the engine."""
        return self.spy.decode(self.engine.runs[-1].new)


def asked(text: str) -> Message:
    return Message(role="user", content=text)


def said(text: str) -> Message:
    return Message(role="assistant", content=[OutputText(text=text)])


def thought(text: str) -> Reasoning:
    return Reasoning(content=[ReasoningText(text=text)])


async def test_harmony_rewinds_to_the_last_answer_and_says_so() -> None:
    talk = Talk("harmony", tuple(HARMONY_IDS), PromptContext(tools=LS))
    call = FunctionCall(call_id="1", name="ls", arguments="{}")
    assert await talk.say(asked("go"), answer=[thought("hm"), call]) == []
    assert await talk.say(FunctionCallOutput(call_id="1", output="x"), answer=[thought("so"), said("done")]) == []
    assert talk.sent == (  # the token sampled last has not been read yet
        '<|call|><|start|>functions.ls to=assistant<|channel|>commentary<|message|>"x"<|end|><|start|>assistant'
    )
    assert await talk.say(asked("more"), answer=[said("yes")]) == ["reasoning_dropped"]
    assert "analysis<|message|>" not in talk.prompt
    assert talk.sent.startswith("<|start|>user<|message|>go<|end|><|start|>assistant to=functions.ls")


async def test_harmony_without_reasoning_keeps_all_of_the_answer() -> None:
    talk = Talk("harmony", tuple(HARMONY_IDS), PromptContext())
    await talk.say(asked("go"), answer=[said("done")])
    assert await talk.say(asked("more"), answer=[said("yes")]) == []
    assert talk.sent == "<|end|><|start|>user<|message|>more<|end|><|start|>assistant"  # for `<|return|>`


async def test_mistral_moves_the_tools_with_the_question_up_to_v11_only() -> None:
    old, new = (Talk(name, MISTRAL_MARKS, PromptContext(tools=LS)) for name in ("mistral-v11", "mistral-v13"))
    for talk, reasons in ((old, ["preamble_moved"]), (new, [])):
        assert await talk.say(asked("one"), answer=[said("yes")]) == []
        assert await talk.say(asked("two"), answer=[said("no")]) == reasons
    assert old.sent.startswith("[INST]one[/INST]yes</s>[AVAILABLE_TOOLS]")
    assert new.sent == "</s>[INST]two[/INST]"


async def test_a_family_without_generation_prompt_answers_after_a_warm_up_of_the_whole_prompt() -> None:
    talk = Talk("mistral-v13", MISTRAL_MARKS, PromptContext())
    await talk.say(asked("one"), answer=[])
    assert await talk.say(answer=[said("yes")]) == []
    assert talk.sent == "[/INST]"  # a model decodes behind a token that it reads now
    assert talk.prompt == "<s>[INST]one[/INST]"
