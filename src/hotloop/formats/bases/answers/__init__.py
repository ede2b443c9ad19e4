"""Answers of reasoning, text and calls, one message each, for families that a `Dialect` tells apart: DeepSeek, Kimi."""
