import json

import pytest

from hotloop.errors import InvalidType
from hotloop.protocol.control import decline, decode_interrupt


def test_a_steer_comes_back_with_its_input() -> None:
    message = {"type": "response.steer", "previous_response_id": "resp_1", "input": "stop that"}
    event = json.loads(decline("response.steer", json.dumps(message).encode()))
    assert event["type"] == "response.steer.failed"
    assert event["steer"] == {"previous_response_id": "resp_1", "input": "stop that"}
    assert event["error"]["code"] == "steering_not_supported"


def test_an_injection_names_the_response_it_could_not_reach() -> None:
    event = json.loads(decline("response.inject", b'{"response_id": "resp_1", "input": []}'))
    assert event["type"] == "response.inject.failed"
    assert event["response_id"] == "resp_1"
    assert event["error"]["type"] == "invalid_request_error"


def test_a_field_of_the_wrong_type_is_named() -> None:
    with pytest.raises(InvalidType) as raised:
        decode_interrupt(b'{"response_id": 3}')
    assert raised.value.param == "response_id"
