"""One generate under way in the engine host: its chain, its sampler, its counts and stamps."""

from hotloop.engines.llama.chain import Chain
from hotloop.engines.llama.grammar import ConstraintRun
from hotloop.engines.llama.sampling import Sampler
from hotloop.seams.engine import Sampling, TokenLogprob, Usage


class HostRun:
    """State of a run. The first `prompt_tokens` of its chain are the prompt; those behind were sampled by it."""

    def __init__(self, number: int, chain: Chain, sampling: Sampling, received_at: float) -> None:
        self.number = number
        self.chain = chain
        self.sampling = sampling
        self.sampler = Sampler(sampling)
        self.constraint: ConstraintRun | None = None
        self.stop_tokens = sampling.stop_tokens
        self.prompt_tokens = len(chain.tokens)
        self.cached_tokens = 0
        self.restored_tokens = 0
        self.output_tokens = 0
        self.gave_way = False  # its cells were taken before it was done
        self._received_at = received_at
        self._admitted_at: float | None = None
        self._prefilled_at: float | None = None

    def constrain(self, constraint: ConstraintRun) -> None:
        """Sampling obeys `constraint` from now on."""
        self.constraint = constraint
        self.stop_tokens = constraint.stop_tokens

    @property
    def samples(self) -> bool:
        """It wants tokens, not only a prefill."""
        return self.sampling.max_tokens > 0

    @property
    def reusable_tokens(self) -> int:
        """Tokens whose KV need not be computed now: all, but the last one whose logits are needed."""
        return len(self.chain.tokens) - 1 if self.samples else len(self.chain.tokens)

    @property
    def pending(self) -> int:
        """Tokens of the chain still to be decoded."""
        return len(self.chain.tokens) - self.chain.held

    @property
    def is_decoding(self) -> bool:
        """Its prompt is prefilled: one new token at each step."""
        return self.output_tokens > 0 and self.pending == 1

    def admitted(self, now: float) -> None:
        """It has a sequence. Only the first time counts."""
        if self._admitted_at is None:
            self._admitted_at = now
            self.cached_tokens = self.chain.held
            self.restored_tokens = min(self.chain.restored, self.chain.held)

    def sampled(self, token: int, now: float) -> None:
        """`token` was picked; it is the chain's next."""
        if self.constraint is not None and token not in self.stop_tokens:
            self.constraint.accept(token)
        self._prefilled_at = self._prefilled_at or now
        self.output_tokens += 1
        self.chain.tokens.append(token)

    def usage(self, now: float) -> Usage:
        """What it cost up to now."""
        admitted = now if self._admitted_at is None else self._admitted_at
        prefilled = now if self._prefilled_at is None else self._prefilled_at
        return Usage(
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            restored_tokens=self.restored_tokens,
            output_tokens=self.output_tokens,
            held_tokens=self.chain.kept,
            queue_s=admitted - self._received_at,
            prefill_s=prefilled - admitted,
            decode_s=now - prefilled,
        )


Picked = tuple[int, int, TokenLogprob | None]  # run number, token, its log-probability if asked for
