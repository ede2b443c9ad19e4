"""An MCP server on stdio that misbehaves, `rogue.py MODE`; it knows just enough of the protocol to get there."""

import json
import sys
import time
from typing import Any

MODE = sys.argv[1]
TOOLS: dict[str, list[dict[str, Any]]] = {
    "no-schema": [{"name": "t", "inputSchema": {"type": "object", "properties": {"a": {"type": 7}}}}],
    "monstrous": [{"name": "t", "inputSchema": {"type": "object", "description": "x" * (2 * 2**20)}}],
    "many": [{"name": f"t{number}", "inputSchema": {"type": "object"}} for number in range(2000)],
    "same": [{"name": "t", "inputSchema": {"type": "object"}}] * 2,
}
TOOLS["deep"] = [{"name": "t", "inputSchema": {"type": "object", "properties": {}}}]
schema = TOOLS["deep"][0]["inputSchema"]
for _ in range(80):
    schema["properties"] = {"a": {"type": "object"}}
    schema = schema["properties"]["a"]


def say(message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def answer(request: dict[str, Any]) -> None:
    method, number = request.get("method"), request.get("id")
    result: Any
    if number is None:
        return
    if MODE == "silent":
        return
    if MODE == "garbage":
        sys.stdout.write("{this is no JSON\n")
        sys.stdout.flush()
        return
    if method == "server/discover":
        say({"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": "Method not found"}})
    elif method == "initialize":
        version = "1999-01-01" if MODE == "old" else "2025-06-18"
        info = {"name": "rogue", "version": "0"}
        say(
            {
                "jsonrpc": "2.0",
                "id": number,
                "result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info},
            }
        )
    elif method == "tools/list":
        if MODE == "listless":
            return
        tools = TOOLS.get(MODE, [{"name": "t", "inputSchema": {"type": "object"}}])
        result = {"tools": tools, **({"nextCursor": "again"} if MODE == "endless" else {})}
        say({"jsonrpc": "2.0", "id": number, "result": "a list" if MODE == "wordy" else result})
    elif MODE == "flood":
        while True:
            sys.stdout.write("x" * 65536)
    elif MODE == "die":
        sys.exit(1)
    elif MODE == "nonsense":
        say({"jsonrpc": "2.0", "id": number, "result": {"content": "of a kind nobody knows"}})
    elif MODE == "mute":
        sys.stdout.write("{half a mess")
        sys.stdout.flush()
    elif MODE == "refuse":
        say({"jsonrpc": "2.0", "id": number, "error": {"code": -32602, "message": "not like this"}})


if MODE == "stillborn":
    sys.exit(1)
if MODE == "greeting":
    sys.stdout.write("welcome to this server\n")
for line in sys.stdin:
    answer(json.loads(line))
if MODE == "stubborn":
    while True:
        time.sleep(1)
