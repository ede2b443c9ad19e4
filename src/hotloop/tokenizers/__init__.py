"""Tokenizers that need no engine: tokenizer.json, tiktoken ranks, tekken, and the fast path of a GGUF file."""
