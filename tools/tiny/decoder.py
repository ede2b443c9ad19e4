"""llama.cpp in this process, without a server: text in, greedy text out."""

from pathlib import Path
from typing import Any

import xllamacpp

MAX_OUTPUT_TOKENS = 400


class Decoder:
    """Greedy decoding of text after text, by the engine the package is shipped with."""

    def __init__(self, path: Path) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel, params.verbosity, params.port = 4096, 1, -1, 0
        params.cpuparams.n_threads = 1
        self._server = xllamacpp.Server(params)

    def complete(self, prompt: str) -> str:
        """What the model writes up to its end of message."""
        answer: Any = self._server.handle_completions(
            {"prompt": prompt, "n_predict": MAX_OUTPUT_TOKENS, "temperature": 0, "cache_prompt": True}
        )
        return str(answer["choices"][0]["text"])
