"""What one tenant stored is not there for another, whatever the path."""

from typing import Any

import httpx
import pytest
from tests.support.live_server import live_server
from tests.support.scripted_model import scripted_model

from hotloop.server import door
from hotloop.server.auth import AccessPolicy, Headers
from hotloop.session.principal import Principal, Tenant


def by_header(policy: AccessPolicy, headers: Headers) -> Principal:
    """Stands for keys of several tenants."""
    return Principal(Tenant(dict(headers).get(b"x-tenant", b"nobody").decode()))


async def test_the_ids_of_another_tenant_are_404_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "authenticate", by_header)
    mine, theirs = {"x-tenant": "me"}, {"x-tenant": "them"}
    async with (
        live_server(scripted_model()) as server,
        httpx.AsyncClient(base_url=server.url, timeout=30) as client,
    ):

        async def create(headers: dict[str, str], **fields: Any) -> httpx.Response:
            return await client.post("/responses", json={"model": "test", "input": "hello", **fields}, headers=headers)

        made = (await create(mine)).json()
        running = (await create(mine, input="forever", background=True)).json()
        item_id = made["output"][0]["id"]
        message = {"role": "user", "content": "hi", "id": "msg_mine"}
        conversation = (await client.post("/conversations", json={"items": [message]}, headers=mine)).json()
        one, talk = f"/responses/{made['id']}", f"/conversations/{conversation['id']}"
        attempts: list[tuple[str, str, Any]] = [
            ("GET", one, None),
            ("DELETE", one, None),
            ("POST", f"{one}/cancel", None),
            ("GET", f"{one}/input_items", None),
            ("GET", f"/responses/{running['id']}?stream=true", None),
            ("POST", f"/responses/{running['id']}/cancel", None),
            ("DELETE", f"/responses/{running['id']}", None),
            ("GET", talk, None),
            ("POST", talk, {"metadata": {}}),
            ("DELETE", talk, None),
            ("GET", f"{talk}/items", None),
            ("POST", f"{talk}/items", {"items": [message]}),
            ("GET", f"{talk}/items/msg_mine", None),
            ("DELETE", f"{talk}/items/msg_mine", None),
            ("POST", "/responses", {"model": "test", "input": "hi", "conversation": conversation["id"]}),
            ("POST", "/responses", {"model": "test", "input": [{"type": "item_reference", "id": item_id}]}),
            ("POST", "/responses/input_tokens", {"model": "test", "conversation": conversation["id"]}),
        ]
        for method, path, body in attempts:
            answer = await client.request(method, path, json=body, headers=theirs)
            assert answer.status_code == 404, (method, path, answer.text)
        parent = await create(theirs, previous_response_id=made["id"])
        assert parent.json()["error"]["code"] == "previous_response_not_found"
        # and nothing of it was touched
        assert (await client.get(one, headers=mine)).json() == made
        assert (await client.get(f"/responses/{running['id']}", headers=mine)).json()["status"] == "in_progress"
        assert len((await client.get(f"{talk}/items", headers=mine)).json()["data"]) == 1
        key = {"Idempotency-Key": "k"}
        ids = [(await create({**headers, **key})).json()["id"] for headers in (mine, theirs, mine)]
        assert ids[0] == ids[2] != ids[1]
        await client.post(f"/responses/{running['id']}/cancel", headers=mine)
