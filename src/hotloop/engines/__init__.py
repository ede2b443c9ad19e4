"""Engines: what runs a model on token ids."""
