"""What is remembered between turns, pure."""
