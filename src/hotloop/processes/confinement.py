"""The child's side: what a process does first that is there to be killed."""

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
_NICENESS = 5  # running turns go first


def confine(parent_pid: int, memory_bytes: int) -> bool:
    """Die with the parent, step back behind it, take no more address space than that. False: the parent is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        return False
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is an answer
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    return True
