"""Pages of items: `after`, `limit`, `order` (docs/protocol.md §11)."""

from collections.abc import Iterable
from itertools import islice

from starlette.requests import Request

from hotloop.errors import InvalidRequest
from hotloop.protocol.item_view import id_of, item_list
from hotloop.protocol.items import Item
from hotloop.server.door import query_choice, query_number

DEFAULT_LIMIT, MAX_LIMIT = 20, 100


def wants_newest_first(request: Request) -> bool:
    """The order asked for."""
    return query_choice(request, "order", ("desc", "asc")) == "desc"


def page(request: Request, ordered: Iterable[Item]) -> bytes:
    """The page asked for, as a list object; `ordered` is in the order asked for and is read no further than needed."""
    limit = query_number(request, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
    items = iter(ordered)
    after = request.query_params.get("after")
    if after is not None and not any(id_of(item) == after for item in items):
        raise InvalidRequest("'after' names no item of this list.", param="after")
    found = list(islice(items, limit + 1))
    return item_list(found[:limit], has_more=len(found) > limit)
