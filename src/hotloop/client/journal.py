"""Which calls were ever started and what came of them: the reason why no call runs twice.

A call is known by its id *and* what it asks for: some servers count ids from zero in every response.
"""

from dataclasses import dataclass

OUTCOME_UNKNOWN = "error: this call was interrupted, its outcome is unknown; it is not run again"
NOT_RUN = "error: this call was not run"


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call as the model made it. `kind` is its item type."""

    kind: str
    call_id: str
    name: str
    arguments: str


class Journal:
    """Lives as long as the agent, over all its runs and connections."""

    def __init__(self) -> None:
        self._outputs: dict[Call, str | None] = {}

    def begin(self, call: Call) -> bool:
        """Note that the call is about to run; False if it ever was, and then it must not."""
        if call in self._outputs:
            return False
        self._outputs[call] = None
        return True

    def finish(self, call: Call, output: str) -> None:
        """Note what the call came to."""
        assert call in self._outputs, "a call finished that never began"
        self._outputs[call] = output

    def output(self, call: Call) -> str:
        """What the model is to read for this call."""
        output = self._outputs.get(call, NOT_RUN)
        return OUTCOME_UNKNOWN if output is None else output
