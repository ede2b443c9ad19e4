"""The embedded engine: llama.cpp in a child process of its own."""

from hotloop.engines.llama.engine import LlamaEngine
from hotloop.engines.llama.faults import LibraryError, LlamaError, ModelFileError
from hotloop.engines.llama.vocab import GgufTokenizer

__all__ = ["GgufTokenizer", "LibraryError", "LlamaEngine", "LlamaError", "ModelFileError"]
