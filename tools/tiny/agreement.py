"""Compares the PyTorch model with the exported file in llama.cpp: greedy answers in held-out repairs must be the same.

The exported file holds half precision, so the PyTorch side reads its weights rounded the same way. Prints `agree K/N turns`
last and fails below 99 %: two nearly equal scores may fall either way.
"""

import argparse
import random
import sys
from pathlib import Path
from typing import Any

import torch
import vocabulary
from building import build
from chatml import GENERATION_PROMPT, Conversation, render
from decoder import Decoder
from model import Model, Shape
from repairs import conversation

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[1] / "src" / "hotloop" / "tiny"
MAX_TOKENS = 200
MUST_AGREE = 0.99


def load(run: Path) -> Model:
    """The trained model with its matrices rounded to half precision, as exported."""
    saved: dict[str, Any] = torch.load(run / "model.pt", map_location="cpu")
    model = Model(Shape(**saved["shape"]))
    model.load_state_dict({name: w.half().float() if w.dim() == 2 else w for name, w in saved["weights"].items()})
    return model.eval()


@torch.no_grad()
def complete(model: Model, tokenizer: vocabulary.Tokenizer, prompt: str) -> str:
    """Greedy answer of the PyTorch model."""
    ids: list[int] = tokenizer.encode(prompt).ids
    end = tokenizer.token_to_id("<|im_end|>")
    begin = len(ids)
    while len(ids) < begin + MAX_TOKENS:
        best = int(model.logits(model(torch.tensor([ids]))[0, -1]).argmax())
        if best == end:
            break
        ids.append(best)
    text: str = tokenizer.decode(ids[begin:], skip_special_tokens=False)
    return text


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=HERE / "runs" / "tiny")
    parser.add_argument("--repairs", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = load(options.run), vocabulary.load(options.run / "tokenizer.json")
    decoder = Decoder(PACKAGE / "tiny.gguf")
    same = turns = 0
    for number in range(options.repairs):
        rng = random.Random(f"agreement-{number}")
        made = conversation(rng, build(rng, held_out=True))
        for place, message in enumerate(made.messages):
            if message.role != "assistant":
                continue
            prompt = render(Conversation(made.preamble, made.messages[:place])) + GENERATION_PROMPT
            one, other = complete(model, tokenizer, prompt), decoder.complete(prompt)[: 10**6]
            turns += 1
            same += one == other
            if one != other:
                print(f"PyTorch:   {one!r}\nllama.cpp: {other!r}")
    print(f"agree {same}/{turns} turns")
    sys.exit(same < MUST_AGREE * turns)


if __name__ == "__main__":
    main()
