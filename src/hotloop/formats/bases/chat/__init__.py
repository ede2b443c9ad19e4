"""Conversations of messages, append-only, for families that a `Dialect` tells apart: ChatML, Qwen's XML calls, GLM."""
