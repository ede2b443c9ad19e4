"""Reading long messages in a process of its own."""
