"""Trains the demonstration model: `python train.py`. Started again, it goes on from its last checkpoint.

The budget is wall time or tokens, whichever ends first; the learning rate falls to nothing at its end. Everything lands in
`runs/NAME/`: tokenizer.json, checkpoint.pt (to go on), model.pt (to export), log.txt.
"""

import argparse
import os
import signal
import time
from dataclasses import asdict
from pathlib import Path

import torch
import vocabulary
from batches import Batch, Encoder, Feed
from chatml import render
from lessons import lesson
from model import Model, Shape
from muon import Muon
from repairs import PREAMBLE
from torch import Tensor
from torch.nn import functional

HERE = Path(__file__).resolve().parent
VOCABULARY_TEXTS = 3000
CHECKPOINT_EVERY_S = 120.0
CHECK_EVERY_S = 600.0
TYPICAL_WEIGHT = 800.0  # a batch with less to learn than this counts for less


class Training:
    """One run and what it needs to go on after a stop."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.folder = HERE / "runs" / options.name
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(options.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.encoder = Encoder(self._tokenizer())
        self.model = Model(Shape(layers=options.layers, width=options.width, heads=options.width // 32,
                                 feed_forward=options.feed_forward)).to(self.device)  # fmt: skip
        matrices = [
            weight for name, weight in self.model.named_parameters() if weight.dim() == 2 and "embedding" not in name
        ]
        others = [weight for name, weight in self.model.named_parameters() if weight.dim() != 2 or "embedding" in name]
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(matrices, lr=options.rate, weight_decay=0.05),
            torch.optim.AdamW(others, lr=options.rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.step, self.tokens, self.pools, self.elapsed_s = 0, 0, 0, 0.0
        self.stopped = False
        self._go_on()
        self.prefix = torch.tensor(self.encoder.encode(PREAMBLE), device=self.device)

    def _tokenizer(self) -> vocabulary.Tokenizer:
        path = self.folder / "tokenizer.json"
        if not path.exists():
            texts = (render(lesson(self.options.seed, -1 - number, 1.0)) for number in range(VOCABULARY_TEXTS))
            vocabulary.train(texts).save(str(path))
        return vocabulary.load(path)

    @property
    def progress(self) -> float:
        """How much of the budget is used, 0 to 1."""
        by_time = self.elapsed_s / (60 * self.options.minutes)
        return min(1.0, max(by_time, self.tokens / self.options.tokens))

    def log(self, text: str) -> None:
        """Write a line to the log and the terminal."""
        line = f"{time.strftime('%H:%M:%S')} {text}"
        print(line, flush=True)
        with (self.folder / "log.txt").open("a") as file:
            file.write(line + "\n")

    def run(self) -> None:
        """Train until the budget is used."""
        self.log(
            f"{sum(weight.numel() for weight in self.model.parameters()) / 1e6:.2f} M parameters, progress {self.progress:.3f}"
        )
        feed = Feed(self.folder / "tokenizer.json", self.options.seed, self.pools, self.options.batch)
        feed.tell(self.progress)
        began = last = saved = checked = time.monotonic()
        for batches in feed.pools():
            for batch in batches:
                loss = self.learn(batch)
                if self.stopped:
                    break
                now = time.monotonic()
                self.elapsed_s += now - last
                last = now
                if self.step % 50 == 0:
                    rate = self.tokens / max(self.elapsed_s, 1e-9)
                    done = f"{self.tokens / 1e6:.2f}M tokens, {rate:.0f}/s"
                    self.log(f"step {self.step} progress {self.progress:.3f} loss {loss:.4f} {done}")
            if self.stopped:  # the pool is begun again when the training goes on
                self.save()
                break
            self.pools += 1
            feed.tell(self.progress)
            if now - saved > CHECKPOINT_EVERY_S or self.progress >= 1:
                self.save()
                saved = now
            if now - checked > CHECK_EVERY_S or self.progress >= 1:
                self.check(64)
                checked = last = time.monotonic()
            if self.progress >= 1:
                break
        feed.close()
        self.log(f"done after {time.monotonic() - began:.0f} s")

    def learn(self, batch: Batch) -> float:
        """One step; the mean loss over what the agent writes."""
        self.model.train()
        share = self._rate_share()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.options.rate * share
        ids = torch.from_numpy(batch.ids).to(self.device)
        weights = torch.from_numpy(batch.weights).to(self.device)[:, 1:].flatten()
        where = weights.nonzero().squeeze(1)
        hidden = self._forward(ids, batch)[:, :-1].flatten(0, 1)
        scores = self.model.logits(hidden[where]).float()
        losses = functional.cross_entropy(scores, ids[:, 1:].flatten()[where], reduction="none")
        total = weights.sum().clamp_min(TYPICAL_WEIGHT)
        ((losses * weights[where]).sum() / total).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        self.tokens += ids.numel()
        agent = weights[where] == 1
        return losses[agent].mean().item() if agent.any() else 0.0

    def _forward(self, ids: Tensor, batch: Batch) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            hidden: Tensor = self.model(ids, self.prefix if batch.has_prefix else None)
        return hidden

    def _rate_share(self) -> float:
        warm = min(1.0, (self.step + 1) / 100)
        return warm * min(1.0, (1.0 - self.progress) / (1.0 - self.options.decay_from) + 0.005)

    def save(self) -> None:
        """Write the checkpoint and the model, each at once or not at all."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "counts": (self.step, self.tokens, self.pools, self.elapsed_s),
        }
        model = {"shape": asdict(self.model.shape), "weights": self.model.state_dict(), "tokens": self.tokens,
                 "elapsed_s": self.elapsed_s, "seed": self.options.seed, "progress": self.progress}  # fmt: skip
        for name, content in (("checkpoint.pt", state), ("model.pt", model)):
            torch.save(content, self.folder / f"{name}.part")
            os.replace(self.folder / f"{name}.part", self.folder / name)

    def _go_on(self) -> None:
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.tokens, self.pools, self.elapsed_s = state["counts"]

    @torch.no_grad()
    def check(self, count: int) -> None:
        """Count the turns and the whole repairs of held-out repositories that greedy decoding would write exactly."""
        import random

        from building import build
        from repairs import conversation

        self.model.eval()
        turns = right_turns = right = 0
        for number in range(count):
            rng = random.Random(f"check-{number}")
            made = conversation(rng, build(rng, held_out=True))
            ids, weights = self.encoder.conversation(made, 0.0)
            begin = len(self.prefix)
            row = torch.tensor([ids[begin:]], device=self.device)
            guesses = self.model.logits(self.model(row, self.prefix))[0].argmax(-1).tolist()
            ok = [weight == 0 or guess == token
                  for guess, token, weight in zip(guesses, ids[begin + 1 :], weights[begin + 1 :], strict=False)]  # fmt: skip
            wrong_turns, all_turns, inside = 0, 0, False
            for good, weight in zip(ok, weights[begin + 1 :], strict=False):
                if weight > 0 and not inside:
                    all_turns, wrong = all_turns + 1, False
                if weight > 0 and not good and not wrong:
                    wrong_turns, wrong = wrong_turns + 1, True
                inside = weight > 0
            turns, right_turns, right = (
                turns + all_turns,
                right_turns + all_turns - wrong_turns,
                right + (wrong_turns == 0),
            )
        self.log(f"check: turns {right_turns}/{turns}, repairs {right}/{count}")


def main() -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="tiny")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1e6, help="budget of wall time")
    parser.add_argument("--tokens", type=float, default=21e6, help="budget of tokens")
    parser.add_argument("--rate", type=float, default=5e-3)
    parser.add_argument("--decay-from", type=float, default=0.4)
    parser.add_argument("--batch", type=int, default=5000, help="tokens of a batch")
    parser.add_argument("--width", type=int, default=160)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--feed-forward", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    training = Training(options)

    def stop(number: int, frame: object) -> None:
        training.stopped = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    training.run()


if __name__ == "__main__":
    main()
