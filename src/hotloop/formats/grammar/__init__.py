"""What an output must fit: the parts of call grammars, and the languages that tools bring and engines read."""
