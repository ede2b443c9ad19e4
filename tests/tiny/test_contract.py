"""What the agent says today is what the shipped model was trained on."""

import json

from tests.tiny.workshop import tool

from hotloop.tiny import model_path

MAX_BYTES = 6_000_000


def test_instructions_tools_and_result_texts_are_those_of_the_training() -> None:
    trained_on = json.loads(model_path().with_name("contract.json").read_text())
    assert tool("fingerprint").fingerprints() == trained_on, "train the model again: see its MODEL_CARD.md"


def test_the_model_file_is_small_enough_to_ship() -> None:
    assert model_path().stat().st_size <= MAX_BYTES
    assert model_path().read_bytes()[:4] == b"GGUF"
