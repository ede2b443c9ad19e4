"""Measuring: what a turn costs the server, as ratios of figures taken interleaved in one run (docs/measurements.md).

Each bench starts its own servers, prints the machine, the versions, the load, its command and the spread, then a table,
then one line per goal. Absolute times are shown, never judged.
"""
