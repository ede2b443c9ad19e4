"""What the model was trained to read and write, as hashes: shipped beside it, compared by a test with what is shipped now."""

import hashlib
import json
from typing import Any

from agent_contract import contract

RESULTS = (
    "EDIT_DONE", "EDIT_CREATED", "EDIT_NOT_FOUND", "EDIT_AMBIGUOUS", "EDIT_NO_FILE", "EDIT_EXISTS", "EDIT_OUTSIDE", "DECLINED",
)  # fmt: skip


def fingerprints() -> dict[str, str]:
    """sha256 of the canonical JSON of each part of the contract."""
    parts: dict[str, Any] = {
        "instructions": contract.INSTRUCTIONS,
        "tools": contract.TOOLS,
        "output_limit_chars": contract.OUTPUT_LIMIT_CHARS,
        "results": {name: getattr(contract, name) for name in RESULTS},
        "shell_results": [
            contract.shell_result("", 0), contract.shell_result("x\n", 0), contract.shell_result("", 1),
            contract.shell_result("x", 1), contract.shell_timeout("", 1.5), contract.shell_timeout("x", 1.5),
            contract.cap_output("x" * (contract.OUTPUT_LIMIT_CHARS + 3)),
        ],
    }  # fmt: skip
    return {name: hashlib.sha256(_canonical(part)).hexdigest() for name, part in parts.items()}


def _canonical(part: Any) -> bytes:
    return json.dumps(part, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
