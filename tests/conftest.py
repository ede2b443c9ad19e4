"""Settings every test shares: how many examples a property is tried on, and that no client loads certificates."""

import os
import signal
import tempfile

from hypothesis import HealthCheck, settings

_SLOW_MACHINE = [HealthCheck.too_slow]  # a loaded machine is not a reason to fail
settings.register_profile("default", max_examples=200, deadline=None, suppress_health_check=_SLOW_MACHINE)
settings.register_profile("long", max_examples=10_000, deadline=None, suppress_health_check=_SLOW_MACHINE)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# No test speaks TLS, and httpx reads all of a system's certificates for every client it makes, a third of a short test.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = tempfile.gettempdir()

# A background job of a shell ignores Ctrl-C, and so would the commands that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
