"""The engine that plays turns from a file (docs/scripted.md)."""

from hotloop.engines.scripted.engine import ScriptedEngine
from hotloop.engines.scripted.script import Script, ScriptError, load_script, parse_script, script_of

__all__ = ["Script", "ScriptError", "ScriptedEngine", "load_script", "parse_script", "script_of"]
