"""The wire, pure: requests, items, the order of a connection, a response as bytes."""
