"""The constraint of a turn, built once per context and call rules and judged before the engine sees it.

It is kept on the context's shelf, by the rules.
"""

import asyncio
from dataclasses import replace

from hotloop.errors import ApiError, SchemaTooComplex, UnsupportedValue
from hotloop.protocol.tools import CustomTool, FunctionTool, GrammarFormat, Tool
from hotloop.seams.engine import Constraint
from hotloop.seams.format import Format
from hotloop.seams.grammar import GrammarProblem, GrammarValidator
from hotloop.seams.prompt import CallRules, PromptContext

OFF_LOOP_BYTES = 16_384  # of schemas; more is turned into a grammar in a thread

_Part = tuple[str, Constraint]  # path of the request's field, and the constraint that it alone gives


class ConstraintBook:
    """Makes constraints.

    Args:
        validator: judges every new grammar; None where the engine runs no grammar at all.
    """

    def __init__(self, format: Format, validator: GrammarValidator | None) -> None:
        self._format = format
        self._validator = validator

    async def get(self, context: PromptContext, rules: CallRules) -> Constraint | None:
        """What the output must fit. Raises SchemaTooComplex or UnsupportedValue naming the field that is at fault."""
        if context.shelf is not None and context.shelf.holds(rules):
            return context.shelf.get(rules, lambda: None, _size_bytes)
        size = sum(map(_ruled_bytes, context.tools)) + len(rules.text_schema or b"")
        if size > OFF_LOOP_BYTES:
            constraint, parts = await asyncio.to_thread(self._build, context, rules)
        else:
            constraint, parts = self._build(context, rules)
        if constraint is not None and self._validator is not None:
            await self._check(self._validator, constraint, parts)
        if context.shelf is not None:
            context.shelf.get(rules, lambda: constraint, _size_bytes)
        return constraint

    def _build(self, context: PromptContext, rules: CallRules) -> tuple[Constraint | None, list[_Part]]:
        constraint = self._format.constraint(context, rules)
        if constraint is None or self._validator is None:
            return constraint, []
        return constraint, self._parts(context, rules)

    def _parts(self, context: PromptContext, rules: CallRules) -> list[_Part]:
        """A constraint for everything the client wrote a schema or grammar for, so that the one at fault can be named."""
        parts: list[tuple[str, Constraint | None]] = []
        if rules.text_schema is not None:
            alone = self._format.constraint(_with_tools(context), CallRules("none", text_schema=rules.text_schema))
            parts.append(("text.format.schema", alone))
        for index, tool in enumerate(context.tools):
            place = context.place_of_tool(index)
            is_allowed = rules.allowed is None or getattr(tool, "name", "") in rules.allowed
            if rules.choice != "none" and is_allowed and _ruled_bytes(tool):
                field = "format.definition" if isinstance(tool, CustomTool) else "parameters"
                alone = self._format.constraint(_with_tools(context, (tool, place)), CallRules("required"))
                parts.append((f"{place}.{field}", alone))
        return [(param, constraint) for param, constraint in parts if constraint is not None]

    @staticmethod
    async def _check(validator: GrammarValidator, constraint: Constraint, parts: list[_Part]) -> None:
        grammars = [part.grammar for _, part in parts] + [constraint.grammar]
        problem = await validator.check(grammars)
        if problem is not None:
            params = [param for param, _ in parts] + ["tools"]
            raise _refusal(problem, params[problem.index])


def _size_bytes(constraint: Constraint | None) -> int:
    return 0 if constraint is None else 2 * len(constraint.grammar)  # and the schema in its key


def _with_tools(context: PromptContext, *tools: tuple[Tool, str]) -> PromptContext:
    """The same context with these tools only, and without a think block where the family can do without."""
    return replace(
        context,
        tools=tuple(tool for tool, _ in tools),
        tool_places=tuple(place for _, place in tools),
        reasoning_effort="none",
        digest=b"",
        shelf=None,
    )


def _ruled_bytes(tool: Tool) -> int:
    """Bytes of the schema or grammar that the tool's calls are held to; 0 if there is none."""
    match tool:
        case FunctionTool(strict=True, parameters=parameters) if parameters is not None:
            return len(bytes(parameters))
        case CustomTool(format=GrammarFormat(definition=definition)):
            return len(definition) + 1
        case _:
            return 0


def _refusal(problem: GrammarProblem, param: str) -> ApiError:
    message = f"The schema or grammar in '{param}' cannot be used: {problem.detail}"
    return SchemaTooComplex(message, param=param) if problem.is_too_complex else UnsupportedValue(message, param=param)
