"""Child processes that do what must not hold up or bring down the server: they can be killed at any moment."""
