import itertools
import json
from typing import Any

import pytest

from hotloop.errors import ApiError, ContextLengthExceeded, EngineUnavailable
from hotloop.protocol.chat_answer import ChunkStream, chat_error, completion
from hotloop.protocol.open_item import TextLogprob
from hotloop.protocol.response import ResponseStream, ResponseUsage

USAGE = ResponseUsage(10, 4, 3, 1)
LOGPROB = TextLogprob(b"hi", -0.5)


class Play:
    """A response and the chunks made of it."""

    def __init__(self, *, include_usage: bool = False, wants_logprobs: bool = False) -> None:
        numbers = itertools.count(1)
        self.response = ResponseStream(
            response_id="resp_1",
            created_at=1000,
            echo=b'"model":"m","service_tier":"default"',
            new_id=lambda prefix: f"{prefix}_{next(numbers)}",
        )
        self.stream = ChunkStream(include_usage=include_usage, wants_logprobs=wants_logprobs)
        self.chunks: list[dict[str, Any]] = []
        self.push(*self.response.begin())

    def push(self, *events: bytes) -> None:
        for event in events:
            self.chunks += [json.loads(chunk) for chunk in self.stream.chunks(event)]

    @property
    def deltas(self) -> list[dict[str, Any]]:
        return [chunk["choices"][0]["delta"] for chunk in self.chunks if chunk.get("choices")]

    def say_everything(self) -> None:
        response = self.response
        self.push(*response.open_item("reasoning"), response.delta("why"), *response.close_item())
        self.push(*response.open_item("message"), response.delta("hi", [LOGPROB]), *response.close_item())
        self.push(*response.open_item("function_call", "run"), response.delta('{"a":'), response.delta("1}"))
        self.push(*response.close_item())
        self.push(*response.open_item("custom_tool_call", "shell"), response.delta("ls"), *response.close_item())
        self.push(response.completed(USAGE, 1001))


def test_nothing_is_shown_before_something_was_written() -> None:
    play = Play()
    assert play.chunks == []
    play.push(play.response.failed(EngineUnavailable("Gone."), None))
    assert play.chunks == []


def test_a_keep_alive_shows_that_the_turn_is_at_work() -> None:
    play = Play()
    play.push(play.response.in_progress())
    play.push(play.response.in_progress())
    assert play.deltas == [{"role": "assistant", "content": "", "refusal": None}, {}]


def test_every_kind_of_output_has_its_delta() -> None:
    play = Play(wants_logprobs=True, include_usage=True)
    play.say_everything()
    assert play.deltas == [
        {"role": "assistant", "content": "", "refusal": None},
        {"reasoning_content": "why"},
        {"content": "hi"},
        {
            "tool_calls": [
                {"index": 0, "id": "call_4", "type": "function", "function": {"name": "run", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
        {"tool_calls": [{"index": 1, "id": "call_6", "type": "custom", "custom": {"name": "shell", "input": ""}}]},
        {"tool_calls": [{"index": 1, "custom": {"input": "ls"}}]},
        {},
    ]
    *written, last = play.chunks
    assert written[2]["choices"][0]["logprobs"]["content"][0]["logprob"] == -0.5
    assert written[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert last["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 3,
        "total_tokens": 13,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    assert {(chunk["id"], chunk["object"], chunk["created"], chunk["model"]) for chunk in play.chunks} == {
        ("chatcmpl-1", "chat.completion.chunk", 1000, "m")
    }


def test_the_object_holds_what_was_streamed() -> None:
    play = Play()
    play.say_everything()
    answer = json.loads(completion(play.response.final, wants_logprobs=True))
    (choice,) = answer["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": "hi",
        "refusal": None,
        "annotations": [],
        "reasoning_content": "why",
        "tool_calls": [
            {"id": "call_4", "type": "function", "function": {"name": "run", "arguments": '{"a":1}'}},
            {"id": "call_6", "type": "custom", "custom": {"name": "shell", "input": "ls"}},
        ],
    }
    assert choice["logprobs"]["content"][0]["token"] == "hi"
    assert (choice["finish_reason"], answer["usage"]["total_tokens"], answer["object"]) == (
        "tool_calls",
        13,
        "chat.completion",
    )
    assert json.loads(completion(play.response.final, wants_logprobs=False))["choices"][0]["logprobs"] is None


@pytest.mark.parametrize(
    ("reason", "expected"), [("max_output_tokens", "length"), ("content_filter", "content_filter")]
)
def test_a_cut_answer_says_why(reason: Any, expected: str) -> None:
    play = Play()
    response = play.response
    play.push(*response.open_item("message"), response.delta("half"), *response.close_item(complete=False))
    play.push(response.incomplete(reason, USAGE))
    assert play.chunks[-1]["choices"][0]["finish_reason"] == expected
    assert json.loads(completion(response.final, wants_logprobs=False))["choices"][0]["finish_reason"] == expected


@pytest.mark.parametrize("error", [EngineUnavailable("Gone."), ContextLengthExceeded(9, 5)])
def test_a_failure_after_the_first_word_is_an_error_in_the_stream(error: ApiError) -> None:
    play = Play()
    response = play.response
    play.push(*response.open_item("message"), response.delta("half"), *response.close_item(complete=False))
    play.push(response.failed(error, None))
    expected = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    assert play.chunks[-1] == {"error": expected} == json.loads(chat_error(error))


def test_an_error_code_of_nobody_is_the_servers_fault() -> None:
    class Strange(ApiError):
        code = "server_error"
        type = "strange"

    play = Play()
    play.push(play.response.in_progress(), play.response.failed(Strange("x"), None))
    assert play.chunks[-1]["error"]["type"] == "server_error"
