"""Who may use a KV handle, and how much of a chain it holds.

The turn states along one chain share one lease: the newest of them continues it in place. An older one, or a second child
while the first runs, forks. The handle is closed when the last turn state lets go.
"""

import weakref

from hotloop.seams.engine import KvHandle
from hotloop.session.token_log import TokenView


class KvLease:
    """A KV handle with the chain whose prefix it holds.

    Args:
        handle: the engine's handle; owned from now on.
        view: the chain it was opened for.
    """

    def __init__(self, handle: KvHandle, view: TokenView) -> None:
        self.handle = handle
        self.tip = view  # the chain that `held` counts tokens of
        self.held = len(view)
        self.is_busy = False
        self.reference = weakref.ref(self)  # for those who use it as long as others keep it open
        self._users = 1

    @property
    def is_open(self) -> bool:
        """Somebody still relies on it."""
        return self._users > 0

    def retain(self) -> None:
        """One more turn state relies on it."""
        assert self._users > 0, "a closed lease cannot be retained"
        self._users += 1

    def release(self) -> None:
        """One turn state fewer; the last closes the handle."""
        self._users -= 1
        assert self._users >= 0, "released more often than retained"
        if self._users == 0:
            self.handle.close()

    def replace_handle(self, handle: KvHandle, view: TokenView) -> None:
        """The old handle lost its KV: go on with one that was opened for all of `view`."""
        self.handle.close()
        self.handle = handle
        self.tip = view
        self.held = len(view)
