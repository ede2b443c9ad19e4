"""Models: what turns items into item events."""
