from pathlib import Path

import pytest

from hotloop.client.contract import cap_output
from hotloop.client.tools import BadArguments, ShellTool


@pytest.mark.parametrize(
    "arguments", ["", "{", "[]", '{"command":1}', '{"command":"a","x":1}', "{}", '{"command":"\\u0000"}']
)
def test_arguments_that_do_not_fit_are_refused_before_anything_runs(arguments: str, tmp_path: Path) -> None:
    with pytest.raises(BadArguments):
        ShellTool(tmp_path).prepare(arguments)


def test_the_cap_counts_what_it_leaves_out() -> None:
    assert cap_output("x" * 10, 4) == "xx\n[… 6 characters left out …]\nxx"
