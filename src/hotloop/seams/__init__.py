"""The interfaces where two things vary independently: Protocols and their data only."""
