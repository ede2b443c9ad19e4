"""A self-hosted Responses API server for agent loops, and the agent loop that goes with it."""

__version__: str


def __getattr__(name: str) -> str:
    """`__version__`, read when somebody asks: loading what reads it takes half of a child process's start."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("hotloop")
