"""The lab: what theory and experiment say about a net before its training, and the pages that show it.

No other room needs anything from here: only the command line imports it, and the twins for their part of it.
Imports show and what lies below it.
"""
