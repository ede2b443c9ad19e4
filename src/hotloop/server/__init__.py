"""The doors: ASGI over WebSocket and HTTP."""
