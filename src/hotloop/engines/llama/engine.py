"""The embedded engine: llama.cpp in a child process, which is restarted when it dies.

    starting ──ready──▶ up ──link lost──▶ down ──back-off──▶ starting ──ready──▶ up …

When the host dies its runs end with `UNAVAILABLE` and every handle of that life, an *epoch*, answers
`NEEDS_FULL_PROMPT`. What is opened while no host is up waits for the next one; if that start fails, it ends `UNAVAILABLE`.
"""

import asyncio
import contextlib
import itertools
import logging
from array import array
from collections.abc import Callable

from hotloop.engines.llama.faults import LibraryError, LlamaError
from hotloop.engines.llama.gguf_file import check_header
from hotloop.engines.llama.handle import LlamaHandle, LlamaRun
from hotloop.engines.llama.link import HostLink, HostProcess, spawn
from hotloop.engines.llama.messages import Generate, KvHeld, Open, Ready, Step, ToHost, frame, id_bytes
from hotloop.engines.llama.options import HostOptions
from hotloop.seams.engine import EndReason, KvHandle, KvUse, Usage
from hotloop.session.principal import Tenant
from hotloop.session.token_log import TokenView

log = logging.getLogger(__name__)

MAX_RUNS = 1024  # running and waiting together; one more is refused
FIRST_BACK_OFF_S = 0.05
MAX_BACK_OFF_S = 10.0
START_TIMEOUT_S = 600.0  # loading tens of gigabytes from a slow disk
WATCHDOG_S = 120.0  # a step is at most 512 tokens; the slowest machine worth using does that in a minute
MAX_WAITING_MESSAGES = 4 * MAX_RUNS


class LlamaEngine:
    """Runs a GGUF model in an engine host. Made by `start`, ended by `close`; used on one event loop."""

    def __init__(self, options: HostOptions, *, watchdog_s: float, start_timeout_s: float) -> None:
        self._options = options
        self._watchdog_s = watchdog_s
        self._start_timeout_s = start_timeout_s
        self._loop = asyncio.get_running_loop()
        self._process: HostProcess | None = None  # the newest one, in whatever state
        self._host: HostProcess | None = None  # the same, while it is up and its model is loaded
        self._ready = Ready(0, 0, 0, 0, can_rewind=True)
        self._held = KvHeld()
        self._lost = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        self._runs: dict[int, LlamaRun] = {}
        self._waiting: list[bytes] = []  # frames for the next host, while none is up
        self._numbers = itertools.count(1)
        self._is_closed = False
        self._last_sign_s = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self.epoch = 0
        self.decoded_tokens = 0  # tokens the engine computed since the start, prompts included

    @classmethod
    async def start(
        cls,
        path: str,
        *,
        context_tokens: int | None = None,
        kv_cells: int | None = None,
        sequences: int | None = None,
        parked_bytes: int | None = None,
        threads: int | None = None,
        watchdog_s: float = WATCHDOG_S,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> "LlamaEngine":
        """Load the model at `path` in a host process. `None` takes the default of `HostOptions`.

        Raises ModelFileError if the file is no usable model, LibraryError if llama.cpp is not, ValueError for options.
        """
        check_header(path)
        options = HostOptions(
            path=path,
            context_tokens=context_tokens,
            kv_cells=kv_cells,
            sequences=sequences,
            parked_bytes=parked_bytes,
            threads=threads,
        )
        engine = cls(options, watchdog_s=watchdog_s, start_timeout_s=start_timeout_s)
        await engine._start_host()
        engine._supervisor = asyncio.create_task(engine._supervise(), name="llama host supervisor")
        return engine

    @property
    def name(self) -> str:
        return "llama"

    @property
    def context_tokens(self) -> int:
        return self._ready.context_tokens

    @property
    def can_rewind(self) -> bool:
        return self._ready.can_rewind

    @property
    def kv_use(self) -> KvUse:
        """As of the host's last step; nothing while there is no host."""
        held = KvHeld() if self._host is None else self._held
        total = self._ready.kv_cells
        return KvUse(held.cells if total else 0, total, held.parked_bytes, held.copies)

    @property
    def host_pid(self) -> int | None:
        """Process id of the engine host, None while there is none."""
        return None if self._host is None else self._host.pid

    def open(self, tokens: TokenView, *, parent: KvHandle | None, tenant: Tenant) -> LlamaHandle:
        # The parent needs no naming: the host shares the longest prefix among all chains of the tenant.
        handle = LlamaHandle(self, next(self._numbers), self.epoch)
        if not self._is_closed:
            ids = tokens.head(min(len(tokens), self.context_tokens)).tokens()  # what is longer ends LENGTH anyway
            self.tell(Open(handle.number, tenant, id_bytes(ids)), self.epoch)
        return handle

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self.epoch += 1
        self._end_all(EndReason.ABORTED, "the engine is closed")
        if self._watch is not None:
            self._watch.cancel()
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
        if self._process is not None:
            await self._process.stop()

    # --- RunDesk ---

    def submit(self, run: LlamaRun, message: Callable[[int], Generate]) -> None:
        if self._is_closed:
            return self.end_soon(run, EndReason.UNAVAILABLE, "the engine is closed")
        if len(self._runs) >= MAX_RUNS:
            return self.end_soon(run, EndReason.UNAVAILABLE, f"{MAX_RUNS} runs are under way or waiting")
        run.number = next(self._numbers)
        generate = message(run.number)
        prompt_tokens = generate.keep + len(generate.new) // array("I").itemsize
        if prompt_tokens > self.context_tokens:
            detail = f"a prompt of {prompt_tokens} tokens does not fit a context of {self.context_tokens}"
            return self.end_soon(run, EndReason.LENGTH, detail)
        self.tell(generate, self.epoch)
        if not self._runs:
            self._last_sign_s = self._loop.time()
        self._runs[run.number] = run
        return self._keep_watch()

    def end_soon(self, run: LlamaRun, reason: EndReason, detail: str = "") -> None:
        self._loop.call_soon(run.end, reason, Usage(), detail)

    def tell(self, message: ToHost, epoch: int) -> None:
        if epoch != self.epoch:
            return
        encoded = frame(message)  # also where it waits: what cannot be said is its caller's fault, not the next host's
        if self._host is not None:
            self._host.link.send(encoded)
        elif len(self._waiting) < MAX_WAITING_MESSAGES:
            self._waiting.append(encoded)
        else:
            # not now: a callback must not come before `generate` returns
            self._loop.call_soon(self._forget_epoch, "too much is waiting for the engine host")

    # --- what the host says ---

    def _on_step(self, step: Step) -> None:
        self._last_sign_s = self._loop.time()
        self.decoded_tokens += step.decoded
        if step.held is not None:
            self._held = step.held
        if step.runs:
            numbers, tokens = array("I", step.runs), array("I", step.tokens)
            for index, number in enumerate(numbers):
                run = self._runs.get(number)
                if run is not None:
                    run.step(tokens[index], step.logprobs[index] if step.logprobs is not None else None)
        for ended in step.ended:
            run = self._runs.pop(ended.run, None)
            if run is not None:
                run.end(ended.reason, ended.usage, ended.detail)

    def _on_lost(self, reason: str) -> None:
        self._lost.set()
        if self._host is not None and not self._is_closed:  # not one that was given up before it ended
            self._host = None
            ended = f"the engine host ended ({reason})" if reason else "the engine host ended"
            log.error("%s; %d turns end with it", ended, len(self._runs))
            self._forget_epoch(f"{ended}; it is being restarted")

    def _forget_epoch(self, detail: str, reason: EndReason = EndReason.UNAVAILABLE) -> None:
        """Every handle up to now has lost its KV, every run is over."""
        self.epoch += 1
        self._waiting.clear()
        self._end_all(reason, detail)

    def _end_all(self, reason: EndReason, detail: str) -> None:
        runs, self._runs = self._runs, {}
        for run in runs.values():
            run.end(reason, Usage(), detail)

    # --- life of the host ---

    async def _start_host(self) -> None:
        """Start a host and load the model. Raises LlamaError; no process is left then."""
        self._lost.clear()
        host = self._process = await spawn(self._options, lambda: HostLink(self._on_step, self._on_lost))
        try:
            self._ready = await asyncio.wait_for(host.link.ready(), self._start_timeout_s)
        except TimeoutError as error:
            await self._discard(host)
            raise LibraryError(f"the engine host was not ready within {self._start_timeout_s:g} s") from error
        except BaseException:
            await self._discard(host)
            raise
        if self._lost.is_set():
            raise LibraryError("the engine host ended while it started")
        self._host, self._held = host, KvHeld()
        waiting, self._waiting = self._waiting, []
        for encoded in waiting:
            host.link.send(encoded)
        self._last_sign_s = self._loop.time()
        log.info("engine host ready", extra={"pid": host.pid, "kv_cells": self._ready.kv_cells})

    @staticmethod
    async def _discard(host: HostProcess) -> None:
        host.kill()
        await host.stop()

    async def _supervise(self) -> None:
        """Restart the host whenever it is lost, until cancelled."""
        while True:
            await self._lost.wait()
            if self._process is not None:
                await self._process.stop()
            await self._restart()

    async def _restart(self) -> None:
        back_off_s = FIRST_BACK_OFF_S
        while True:
            await asyncio.sleep(back_off_s)
            try:
                return await self._start_host()
            except (LlamaError, OSError) as error:
                log.warning("engine host does not start: %s", error)
                self._forget_epoch(f"the engine host does not start: {error}")
            back_off_s = min(2 * back_off_s, MAX_BACK_OFF_S)

    def _keep_watch(self) -> None:
        if self._watch is None:
            self._watch = self._loop.call_later(self._watchdog_s, self._check_sign)

    def _check_sign(self) -> None:
        """A host that has runs and says nothing for too long is killed."""
        self._watch = None
        if not self._runs:
            return
        silent_s = self._loop.time() - self._last_sign_s if self._host is not None else 0.0
        if self._host is None or silent_s < self._watchdog_s:
            self._watch = self._loop.call_later(self._watchdog_s - silent_s, self._check_sign)
            return
        log.error("engine host said nothing for %.0f s", silent_s)
        host, self._host = self._host, None
        self._forget_epoch(f"no answer from the engine host for {self._watchdog_s:g} s", EndReason.TIMEOUT)
        host.kill()
