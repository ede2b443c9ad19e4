"""The engine host: a child process that owns libllama, so that a busy event loop costs the engine nothing.

    python -m hotloop.engines.llama.host FD PARENT_PID OPTIONS_JSON

FD is one end of a Unix socket pair. Two threads: this file's reader, which ends the process the moment the server is
gone, and the main thread, which runs the scheduler. A third one compiles grammars.
"""

import ctypes
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import msgspec

from hotloop.engines.llama.binding import ATTR_CONTROL, ATTR_USER_DEFINED, Context, Model
from hotloop.engines.llama.faults import LlamaError, ModelFileError
from hotloop.engines.llama.grammar import ConstraintRun, GrammarError, GrammarVocabulary
from hotloop.engines.llama.messages import FrameReader, Ready, ToHost, Unusable, frame, to_host_decoder
from hotloop.engines.llama.options import HostOptions, resolve
from hotloop.engines.llama.runs import HostRun
from hotloop.engines.llama.scheduler import BATCH_TOKENS, Scheduler
from hotloop.seams.engine import Constraint

INBOX_MESSAGES = 1024  # more wait in the socket
RECEIVE_BYTES = 1 << 18
_PR_SET_PDEATHSIG = 1


class Compiled(msgspec.Struct, frozen=True):
    """The grammar thread's answer."""

    run: HostRun
    constraint: ConstraintRun | GrammarError


Inbox = queue.Queue[ToHost | Compiled]


class GrammarThread:
    """Builds the grammar vocabulary and compiles grammars away from the scheduler."""

    def __init__(self, model: Model, inbox: Inbox) -> None:
        self._inbox = inbox
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="grammar")
        self._vocabulary = self._pool.submit(_grammar_vocabulary, model)

    def compile(self, run: HostRun, constraint: Constraint) -> None:
        """Start compiling; the answer comes through the inbox."""
        self._pool.submit(self._compile, run, constraint)

    def _compile(self, run: HostRun, constraint: Constraint) -> None:
        answer: ConstraintRun | GrammarError
        try:
            answer = ConstraintRun(self._vocabulary.result(), constraint, run.sampling.stop_tokens)
        except GrammarError as error:
            answer = error
        except Exception as error:  # whatever llguidance raises must end this run, not hang it
            answer = GrammarError(f"{type(error).__name__} while compiling")
        self._inbox.put(Compiled(run, answer))


def _grammar_vocabulary(model: Model) -> GrammarVocabulary:
    return GrammarVocabulary(
        pieces=model.pieces(),
        marked=model.tokens_with(ATTR_CONTROL | ATTR_USER_DEFINED),
        stops=model.stop_tokens(),
        encode=lambda text: model.tokenize(text).tolist(),
    )


def read_messages(link: socket.socket, inbox: Inbox) -> None:
    """Feed the inbox until the server closes the link; then the process is over, whatever it is doing."""
    frames = FrameReader()
    try:
        while data := link.recv(RECEIVE_BYTES):
            for body in frames.feed(data):
                inbox.put(to_host_decoder.decode(body))
    finally:
        os._exit(0)  # the main thread may be deep inside a decode


def serve(link: socket.socket, options: HostOptions) -> None:
    """Load the model, say so, and run the scheduler for ever."""
    model = Model(options.path)
    inbox: Inbox = queue.Queue(INBOX_MESSAGES)
    grammars = GrammarThread(model, inbox)  # its vocabulary takes longest: begun while the KV cache is made
    settings = resolve(options, model.trained_context)
    context = Context(
        model,
        cells=settings.kv_cells,
        sequences=settings.sequences,
        batch_tokens=BATCH_TOKENS,
        threads=settings.threads,
    )
    scheduler = Scheduler(
        context,
        sequences=settings.sequences,
        context_tokens=settings.context_tokens,
        parked_bytes=settings.parked_bytes if model.keeps_all_kv else 0,
        clock=time.monotonic,
        compile_constraint=grammars.compile,
    )
    cells = settings.kv_cells if model.has_cells else 0
    link.sendall(frame(Ready(settings.context_tokens, cells, settings.sequences, settings.threads, model.can_rewind)))
    threading.Thread(target=read_messages, args=(link, inbox), daemon=True).start()
    run_forever(scheduler, inbox, link)


def run_forever(scheduler: Scheduler, inbox: Inbox, link: socket.socket) -> None:
    """Messages in, steps out. A server that does not read stops the engine here, through the socket's buffer."""
    while True:
        _drain(scheduler, inbox, wait=not scheduler.has_work)
        if scheduler.has_work:
            link.sendall(frame(scheduler.step()))


def _drain(scheduler: Scheduler, inbox: Inbox, *, wait: bool) -> None:
    try:
        while True:
            message = inbox.get(block=wait)
            wait = False
            if isinstance(message, Compiled):
                scheduler.constraint_ready(message.run, message.constraint)
            else:
                scheduler.receive(message)
    except queue.Empty:
        return


def die_with(parent_pid: int) -> None:
    """Leave no orphan: the end of the link says it too, this also holds while that end is inherited by someone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before the line above
        os._exit(0)


def main() -> None:
    """Entry of the child process."""
    descriptor, parent_pid, options = sys.argv[1:]
    die_with(int(parent_pid))
    for stop_signal in (signal.SIGINT, signal.SIGTERM):  # the server decides when; it may still be draining
        signal.signal(stop_signal, signal.SIG_IGN)
    with socket.socket(fileno=int(descriptor)) as link:
        try:
            serve(link, msgspec.json.decode(options, type=HostOptions))
        except ModelFileError as error:
            link.sendall(frame(Unusable(error.reason, error.path)))
        except LlamaError as error:
            link.sendall(frame(Unusable(str(error))))
        except (BrokenPipeError, ConnectionResetError):
            return
        except Exception as error:  # a fault of ours: where it happened, but no value, which may be somebody's text
            where = traceback.extract_tb(error.__traceback__)[-1]
            link.sendall(frame(Unusable(f"{type(error).__name__} in {where.name}, line {where.lineno}")))


if __name__ == "__main__":
    main()
