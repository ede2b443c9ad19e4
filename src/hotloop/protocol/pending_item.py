"""An output item that the server itself works on: a list of tools to be fetched, a call to be run."""

from dataclasses import dataclass

from hotloop.protocol.hosted_calls import CallStatus
from hotloop.protocol.hosted_items import call_item, list_item
from hotloop.protocol.items import HostedItem, SettingItem


@dataclass(frozen=True, slots=True)
class Pending:
    """A call, or a list if it has no name."""

    index: int  # in the output
    item_id: str
    label: str  # of the server
    name: str = ""
    arguments: str = ""
    approval_request_id: str | None = None

    def begun(self) -> HostedItem | SettingItem:
        """The item while it is worked on."""
        return self.call("in_progress") if self.name else list_item(item_id=self.item_id, label=self.label)

    def cut_off(self) -> HostedItem | SettingItem:
        """The item of a response that ended before it was done."""
        if self.name:
            return self.call("incomplete")
        return list_item(item_id=self.item_id, label=self.label, error="the response ended before")

    def call(self, status: CallStatus, output: str | None = None, error: object = None) -> HostedItem:
        """The call as it came out."""
        return call_item(
            item_id=self.item_id,
            label=self.label,
            name=self.name,
            arguments=self.arguments,
            status=status,
            output=output,
            error=error,
            approval_request_id=self.approval_request_id,
        )
