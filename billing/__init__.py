"""The engine: pure functions over immutable values.

Standard library only; no I/O, no clock, no randomness. Money arithmetic happens here and nowhere else.
"""
