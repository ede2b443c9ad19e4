"""Turns of a `TokenModel` over the toy engine, one after another, without the rest of the pipeline."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from tests.support.toy_engine import ToyEngine
from tests.support.toy_format import CharTokenizer, Rewrites, ToyFormat

from hotloop.models.token_model import TokenModel
from hotloop.protocol.items import (
    CustomToolCall,
    FunctionCall,
    Item,
    Message,
    OutputText,
    Reasoning,
    ReasoningText,
)
from hotloop.seams.format import ItemClosed, ItemDelta, ItemOpened, ParsedEvent
from hotloop.seams.model import ModelEnd, ModelRequest, PreparedTurn, SamplingWishes
from hotloop.seams.prompt import CallRules, PromptContext
from hotloop.session.chain import ModelState
from hotloop.session.item_log import ItemLog
from hotloop.session.principal import LOCAL

CONTEXT = PromptContext(instructions="Be brief.")


@dataclass
class Turn:
    """One turn under way: what it reported, and its end."""

    prepared: PreparedTurn
    request: ModelRequest
    events: list[ParsedEvent] = field(default_factory=list)
    ends: list[ModelEnd] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self) -> None:
        self.prepared.start(self.events.extend, self._end)
        assert not self.events
        assert not self.ends

    def _end(self, end: ModelEnd) -> None:
        self.ends.append(end)
        self.over.set()

    async def end(self) -> ModelEnd:
        await asyncio.wait_for(self.over.wait(), timeout=60)
        (end,) = self.ends
        return end

    def output(self) -> list[Item]:
        """The items its events describe."""
        items: list[Item] = []
        kind = name = text = ""
        for event in self.events:
            match event:
                case ItemOpened():
                    kind, name, text = event.kind, event.name, ""
                case ItemDelta():
                    text += event.text
                case ItemClosed():
                    items.append(as_item(kind, name, text))
        return items


def as_item(kind: str, name: str, text: str) -> Item:
    match kind:
        case "message":
            return Message(role="assistant", content=[OutputText(text=text)])
        case "reasoning":
            return Reasoning(content=[ReasoningText(text=text)])
        case "function_call":
            return FunctionCall(call_id="c", name=name, arguments=text)
        case _:
            return CustomToolCall(call_id="c", name=name, input=text)


@dataclass
class Chain:
    """A finished turn: what the next one continues."""

    state: ModelState | None
    items: ItemLog


START = Chain(None, ItemLog())


def user(text: str) -> Message:
    return Message(role="user", content=text)


def make(engine: ToyEngine | None = None, rewrites: Rewrites = "never") -> TokenModel:
    return TokenModel("toy", format=ToyFormat(rewrites), tokenizer=CharTokenizer(), engine=engine or ToyEngine())


def toy(model: TokenModel) -> ToyEngine:
    assert isinstance(model.engine, ToyEngine)
    return model.engine


async def prepare(model: TokenModel, parent: Chain, *new: Item, context: PromptContext = CONTEXT, **more: Any) -> Turn:
    request = ModelRequest(
        tenant=LOCAL,
        context=context,
        rules=more.pop("rules", CallRules()),
        wishes=more.pop("wishes", SamplingWishes()),
        history=parent.items,
        new_items=new,
        parent=parent.state,
        **more,
    )
    return Turn(await model.prepare(request), request)


async def run(model: TokenModel, parent: Chain, *new: Item, **more: Any) -> Turn:
    turn = await prepare(model, parent, *new, **more)
    turn.start()
    await turn.end()
    return turn


def commit(turn: Turn) -> Chain:
    output = turn.output()
    return Chain(turn.prepared.commit(output), turn.request.history.extended(turn.request.new_items).extended(output))


async def ran(model: TokenModel, parent: Chain, *new: Item, **more: Any) -> Chain:
    return commit(await run(model, parent, *new, **more))


def release(*chains: Chain) -> None:
    for chain in chains:
        if chain.state is not None:
            chain.state.release()
