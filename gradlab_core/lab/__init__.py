"""The lab: what theory and experiment say of a net before its training, and the pages on it.

Nothing that another room needs; only the command line imports it, and the twins for their part of it.
Imports show and what lies below it.
"""
