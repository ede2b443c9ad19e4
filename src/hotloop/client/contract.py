"""What the agent says to every model: its instructions, its tools and how their results read.

The tiny demonstration model is trained on exactly these texts; a test compares them with the fingerprint in its card.
"""

from typing import Any

INSTRUCTIONS = (
    "You are a coding agent. Use the tools to look, change and check; never guess. "
    "When the task is done, say shortly what you did."
)

SHELL: dict[str, Any] = {
    "type": "function",
    "name": "shell",
    "description": "Run a command in the working directory.",
    "parameters": {
        "type": "object",
        "properties": {"command": {"type": "string"}},
        "required": ["command"],
        "additionalProperties": False,
    },
    "strict": True,
}

EDIT: dict[str, Any] = {
    "type": "function",
    "name": "edit",
    "description": "Replace the only occurrence of old in a file by new. With an empty old, create the file.",
    "parameters": {
        "type": "object",
        "properties": {"path": {"type": "string"}, "old": {"type": "string"}, "new": {"type": "string"}},
        "required": ["path", "old", "new"],
        "additionalProperties": False,
    },
    "strict": True,
}

TOOLS: tuple[dict[str, Any], ...] = (SHELL, EDIT)

OUTPUT_LIMIT_CHARS = 4000  # of one tool result; the middle of a longer one is left out


def cap_output(text: str, limit_chars: int = OUTPUT_LIMIT_CHARS) -> str:
    """Cut the middle out of a long tool result and say how much is gone."""
    if len(text) <= limit_chars:
        return text
    half = limit_chars // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"


def shell_result(output: str, exit_code: int) -> str:
    """What the model reads after a command: stdout and stderr as they came, then a failure's exit code."""
    text = cap_output(output.rstrip("\n"))
    if exit_code == 0:
        return text or "(no output)"
    return f"{text}\n[exit code {exit_code}]" if text else f"[exit code {exit_code}]"


def shell_timeout(output: str, timeout_s: float) -> str:
    """What the model reads after a command that was stopped for taking too long."""
    text = cap_output(output.rstrip("\n"))
    return f"{text}\n[stopped after {timeout_s:g} s]" if text else f"[stopped after {timeout_s:g} s]"


EDIT_DONE = "edited {path}"
EDIT_CREATED = "created {path}"
EDIT_NOT_FOUND = "error: old text not found in {path}"
EDIT_AMBIGUOUS = "error: old text found {count} times in {path}, quote more lines"
EDIT_NO_FILE = "error: no such file: {path}"
EDIT_EXISTS = "error: {path} exists, quote the text to replace"
EDIT_OUTSIDE = "error: {path} is outside the working directory"
DECLINED = "error: the user declined this call"
