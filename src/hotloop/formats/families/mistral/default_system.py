"""The system prompt that a chat template falls back to, read out of the template.

It is the model's own text, so it is taken from the model's own file. Only the template's first assignments are run, in
jinja2's sandbox. A sentence with today's date is left out: a chain has to read the same tomorrow.
"""

import re

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

_ASSIGNMENT = re.compile(r"\{%-?\s*set\s+default_system_message\s*=.*?%\}", re.DOTALL)
_TODAY = "\x00"
_DATED_SENTENCE = re.compile(r" ?[^.\n]*\x00[^.\n]*\.")


def default_system(template: str) -> str | None:
    """What `default_system_message` is in `template`; None if it has none."""
    found = _ASSIGNMENT.search(template)
    if found is None:
        return None
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    try:
        module = environment.from_string(template[: found.end()]).make_module({"strftime_now": _today, "bos_token": ""})
    except TemplateError:
        return None
    text = getattr(module, "default_system_message", None)
    return _DATED_SENTENCE.sub("", text) if isinstance(text, str) else None


def _today(_format: str) -> str:
    return _TODAY
