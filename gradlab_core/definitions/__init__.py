"""Definitions: what each number is, in float64 NumPy, one idea a file; the twins are translations of it.

No judgement of a number but the thresholds that a definition itself needs, and no words for people.
Imports records.
"""
