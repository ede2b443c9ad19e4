"""The safety policy in a turn's path: new input beside prefill, output before it leaves.

A policy without rules costs one attribute look-up. Findings are labels; the text itself is never kept.
"""

from collections.abc import Sequence

from hotloop.errors import ContentBlocked
from hotloop.protocol.file_parts import text_with_files
from hotloop.protocol.items import (
    CustomToolCallOutput,
    FunctionCallOutput,
    Item,
    Message,
    OpaqueItem,
    SettingItem,
    opaque_text,
)
from hotloop.seams.classifier import Classifier, Decision, Verdict


class Gate:
    """Judges one turn."""

    def __init__(self, classifier: Classifier) -> None:
        self.is_open = classifier.is_idle  # nothing is judged
        self._classifier = classifier
        self._output = None if self.is_open else classifier.stream("output")
        self.findings: list[str] = []

    def check_input(self, new_items: Sequence[Item]) -> None:
        """Judge the new items, each as one text. Raises ContentBlocked."""
        if self.is_open:
            return
        for index, item in enumerate(new_items):
            text = _input_text(item)
            if text and self._is_blocked(self._classifier.stream("input").feed(text)):
                raise ContentBlocked("The input is not allowed by this server's policy.", param=f"input[{index}]")

    def lets_pass(self, delta: str) -> bool:
        """Judge the next piece of output; False: stop here, the piece must not leave."""
        if self._output is None:
            return True
        verdicts = self._output.feed(delta)
        return not verdicts or not self._is_blocked(verdicts)

    def _is_blocked(self, verdicts: Sequence[Verdict]) -> bool:
        blocked = False
        for verdict in verdicts:
            self.findings.append(verdict.label)
            blocked |= verdict.decision is Decision.BLOCK
        return blocked


def _input_text(item: Item) -> str:
    match item:
        case Message() if item.role != "assistant":
            return text_with_files(item.content)
        case FunctionCallOutput() | CustomToolCallOutput():
            return text_with_files(item.output)
        case OpaqueItem() if not isinstance(item, SettingItem):
            return opaque_text(item)
        case _:
            return ""
