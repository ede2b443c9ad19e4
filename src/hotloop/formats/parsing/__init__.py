"""From sampled ids to items: what the parsers of all families are made of."""
