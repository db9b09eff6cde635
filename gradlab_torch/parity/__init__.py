"""This twin as a subject of the parity judgement: its steps, its arithmetic, its rounding.

No judgement: that is in the core.
Imports programs and what lies below it.
"""
