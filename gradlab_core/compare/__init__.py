"""The comparison of architectures and the published experiment: its runs, figures and pages.

No other room needs anything from here.
Imports show and what lies below it.
"""
