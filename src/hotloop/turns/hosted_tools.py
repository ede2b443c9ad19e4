"""Tool servers in a turn's path: what is done before the model is asked, and the loop around it (docs/hosted-tools.md)."""

import msgspec

from hotloop.protocol.hosted_calls import ApprovalRequest
from hotloop.protocol.hosted_items import read_call, read_request, read_response
from hotloop.protocol.items import Item
from hotloop.protocol.pending_item import Pending
from hotloop.protocol.wire import json_bytes
from hotloop.session.principal import Tenant
from hotloop.turns.admission import AdmittedTurn, with_answers
from hotloop.turns.compaction import is_asked_for
from hotloop.turns.hosted_calls import HostedCalls
from hotloop.turns.hosted_turn import HostedTurn
from hotloop.turns.output import TurnOutput
from hotloop.turns.plan import Plan
from hotloop.turns.record import TurnRecord
from hotloop.turns.services import TurnServices

STOP_TIMEOUT_S = 5.0  # for calls that were stopped; their servers are told, not waited for


class HostedTools:
    """The tool servers of one turn. `discard` it when the turn is over."""

    def __init__(
        self, services: TurnServices, admitted: AdmittedTurn, tenant: Tenant, output: TurnOutput, record: TurnRecord
    ) -> None:
        assert services.tool_servers is not None
        self._services = services
        self._admitted = admitted
        self._tenant = tenant
        self._output = output
        self._record = record
        self._turn: HostedTurn | None = None
        self._calls = HostedCalls(
            services.tool_servers, admitted.terms.servers, output, record, admitted.request.max_tool_calls
        )

    async def before(self) -> AdmittedTurn:
        """Lists the tools that the chain does not know, runs the calls that were allowed now; the turn with both."""
        admitted, stream = self._admitted, self._output.stream
        if is_asked_for(admitted):  # a summary calls nothing
            return admitted
        self._output.prepared = self._calls
        await self._calls.list_tools(admitted.unlisted, self._services.new_id)
        await self._run_allowed(allowed_calls(admitted))
        self._output.prepared = None
        self._record.hosted_before_s = self._record.hosted_s
        if stream.output:
            self._admitted = with_answers(self._services, admitted, stream.output)
        return self._admitted

    def around(self, plan: Plan) -> Plan:
        """The plan with the loop around its turn."""
        turn = HostedTurn(plan.prepared, plan.admitted, self._tenant, self._calls, self._output, self._record)
        self._turn = turn
        return msgspec.structs.replace(plan, prepared=turn)

    def discard(self) -> None:
        """Stop what runs and leave the servers."""
        self._calls.discard()
        if self._turn is not None:
            self._turn.discard()  # no effect after a commit

    async def settled(self) -> None:
        """Until nothing runs that was stopped."""
        if self._turn is not None:
            await self._turn.wait(STOP_TIMEOUT_S)

    async def _run_allowed(self, allowed: list[ApprovalRequest]) -> None:
        stream = self._output.stream
        pending: list[Pending] = []
        for call in allowed:
            item = Pending(
                len(stream.output),
                self._services.new_id("mcp"),
                call.server_label,
                call.name,
                call.arguments,
                approval_request_id=call.id,
            )
            self._output.sink.push(stream.work_on(item, b"response.mcp_call.in_progress"))
            arguments = b',"arguments":' + json_bytes(call.arguments)
            self._output.sink.push([stream.about(item, b"response.mcp_call_arguments.done", arguments)])
            pending.append(item)
        if pending:
            await self._calls.run(pending)


def allowed_calls(admitted: AdmittedTurn) -> list[ApprovalRequest]:
    """The calls that the input allows and that were not run yet."""
    new = admitted.new_items
    allowed = {
        response.approval_request_id
        for response in map(read_response, new)
        if response is not None and response.approve
    }
    if not allowed:
        return []
    allowed -= {call.approval_request_id for call in map(read_call, new) if call is not None}
    found: dict[str, ApprovalRequest] = {}
    for item in admitted.history.items.extended(new).newest_first():
        if len(found) == len(allowed):
            break
        request = _request_in(item, allowed)
        if request is not None:
            found[request.id] = request
    return [*reversed(found.values())]


def _request_in(item: Item, wanted: "set[str]") -> ApprovalRequest | None:
    request = read_request(item)
    return request if request is not None and request.id in wanted else None
