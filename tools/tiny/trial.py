"""A quick evaluation without server, agent or grammar: llama.cpp decodes in this process, calls are run in a folder.

`python trial.py --repositories 50` prints every repository that stays broken, the rates by kind, and `solved K/N` last.
"""

import argparse
import asyncio
import json
import tempfile
from collections import Counter
from pathlib import Path

import unseen
from agent_contract import contract
from chatml import GENERATION_PROMPT
from decoder import Decoder
from repairs import PREAMBLE

from hotloop.client.edit import EditRefused, apply_edit
from hotloop.client.process import run_command
from hotloop.tiny import model_path

MAX_TURNS = 20


def execute(text: str, folder: Path) -> str:
    """Run one call as the agent's tools do."""
    call = json.loads(text.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>"))
    arguments = call["arguments"]
    if call["name"] == "shell":
        result = asyncio.run(run_command(arguments["command"], cwd=folder, timeout_s=60))
        assert result.exit_code is not None, "a command took too long"
        output: str = contract.shell_result(result.output, result.exit_code)
        return output
    try:
        return apply_edit(folder, arguments["path"], arguments["old"], arguments["new"])
    except EditRefused as error:
        return str(error)


def repair(decoder: Decoder, task: str, folder: Path) -> str:
    """Let the model work on a task; the transcript behind the preamble."""
    text = f"<|im_start|>user\n{task}<|im_end|>\n"
    for _ in range(MAX_TURNS):
        said = decoder.complete(PREAMBLE + text + GENERATION_PROMPT)
        text += f"{GENERATION_PROMPT}{said}<|im_end|>\n"
        if not said.startswith("<tool_call>"):
            return text
        try:
            result = execute(said, folder)
        except (ValueError, KeyError, TypeError) as error:
            return f"{text}INVALID CALL: {error}"
        text += f"<|im_start|>user\n<tool_response>\n{result}\n</tool_response><|im_end|>\n"
    return f"{text}TOO MANY TURNS"


def main() -> None:
    """Evaluate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repositories", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", type=Path, default=model_path())
    parser.add_argument("--show", type=int, default=0, help="transcripts of failures to print")
    options = parser.parse_args()
    decoder = Decoder(options.model)
    solved: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for number in range(options.repositories):
        repository, task = unseen.make(options.seed, number)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            unseen.write(repository, folder)
            transcript = repair(decoder, task, folder)
            good = unseen.tests_pass(repository, folder)
        for trait in ["all", *unseen.traits(repository)]:
            seen[trait] += 1
            solved[trait] += good
        if not good:
            wants = [(mend.function, mend.right.strip()) for mend in repository.mends]
            print(f"{number}: not solved, {', '.join(unseen.traits(repository))}, wanted {wants}")
            if seen["all"] - solved["all"] <= options.show:
                print(transcript)
    for trait, count in sorted(seen.items()):
        print(f"{trait}: {solved[trait]}/{count}")
    print(f"solved {solved['all']}/{seen['all']}")


if __name__ == "__main__":
    import os

    os.environ.update(unseen.environment())
    main()
