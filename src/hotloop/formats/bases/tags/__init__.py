"""Calls whose arguments stand in tags, every value as plain text: Qwen's XML calls, GLM."""
