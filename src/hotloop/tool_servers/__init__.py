"""MCP servers, by the official `mcp` package: the adapter of `seams/hosted_tools.py` (docs/hosted-tools.md).

Nothing is imported here: the package is an extra, and takes a second to load.
"""
