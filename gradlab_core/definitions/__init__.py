"""Definitions: what each number is, in float64 NumPy, one idea a file; the twins are translations of it.

Numbers are not judged here, except by thresholds that are part of a definition, and there is no text for users.
Imports records.
"""
