from hypothesis import given
from hypothesis import strategies as st

from hotloop.formats.generic.content_mask import ContentMask

MARKS = ["<|im_end|>", "<think>", "[INST]"]
MASK = ContentMask(MARKS)
texts = st.lists(
    st.sampled_from([*MARKS, "<|im_", "end|>", "<", ">", " ", "x", "[", "\U00100000", "\U0010fffd", "\U0010ff01"]),
    max_size=6,
).map("".join)


def control_tokens(text: str) -> list[str]:
    return [piece for _, piece, is_mark in MASK.pieces(text) if is_mark]


@given(texts)
def test_masking_and_restoring_gives_the_text_back(text: str) -> None:
    assert MASK.restore(MASK.mask(text)) == text


@given(st.lists(texts, max_size=4), st.sampled_from(["", " ", "\n"]))
def test_no_content_holds_a_control_token_not_even_beside_other_content(contents: list[str], between: str) -> None:
    assert control_tokens(between.join(MASK.mask(text).strip() for text in contents)) == []


@given(texts)
def test_content_does_not_complete_what_the_template_began(text: str) -> None:
    masked = MASK.mask(text)
    assert control_tokens(f"<|im_{masked}") == []
    assert control_tokens(f"{masked}|im_end|>") == []


def test_the_templates_own_marks_are_found_in_order() -> None:
    rendered = f"<think>{MASK.mask('a<think>')}<|im_end|>"
    assert control_tokens(rendered) == ["<think>", "<|im_end|>"]
    assert "".join(MASK.restore(piece) for _, piece, _ in MASK.pieces(rendered)) == "<think>a<think><|im_end|>"


def test_values_are_masked_with_their_keys() -> None:
    masked = MASK.mask_value({"<think>": ["[INST]", 1, None, {"a": "b"}]})
    assert "<think>" not in str(masked) and "[INST]" not in str(masked) and "{'a': 'b'}" in str(masked)


def test_masks_written_as_json_escapes_are_found_again() -> None:
    escaped = MASK.mask("[INST]").encode("ascii", "namereplace")
    assert b"INST" not in escaped
    import json

    assert MASK.restore(MASK.unescaped(json.dumps(MASK.mask("é <think>x")))) == '"\\u00e9 <think>x"'
