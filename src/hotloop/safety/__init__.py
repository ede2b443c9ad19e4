"""Safety policies."""
