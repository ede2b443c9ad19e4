"""From items to tokens: what the renderers of all families are made of."""
