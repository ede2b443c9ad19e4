"""A self-hosted Responses API server for agent loops, and the agent loop that goes with it."""

from importlib.metadata import version

__version__ = version("hotloop")
