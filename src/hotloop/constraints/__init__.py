"""Grammars of constrained decoding: judged in a child process, and written for engines that constrain themselves."""
