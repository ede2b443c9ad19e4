"""What steering asks of a response (docs/protocol.md §9.1): the rules that need no connection."""

from collections.abc import Sequence

from hotloop.protocol.items import CustomToolCall, FunctionCall, Item


def may_stop_after(output: Sequence[Item]) -> bool:
    """Whether a response may end here for a steer. With a call in it the client owes an output: it runs to its end."""
    return not any(isinstance(item, FunctionCall | CustomToolCall) for item in output)
