"""What can go wrong between us and llama.cpp. Callers translate; none of these reaches a client as it is.

LlamaError
├── LibraryError      the library is missing, or its layout is not the one we know
├── ModelFileError    the model file cannot be used
├── LogitsError       the model computed something that is no number
└── DecodeError       llama_decode failed
"""


class LlamaError(Exception):
    """Base class."""


class LibraryError(LlamaError):
    """libllama cannot be loaded or driven. The message says what to install."""


class ModelFileError(LlamaError):
    """The file at `path` is no usable model; `reason` is one line."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class LogitsError(LlamaError):
    """No token can be sampled: one run's fault, not the engine's."""


class DecodeError(LlamaError):
    """llama_decode refused the batch for a reason other than room."""

    def __init__(self, code: int) -> None:
        super().__init__(f"llama_decode returned {code}")
        self.code = code
