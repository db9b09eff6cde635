"""The comparison of architectures, with the published experiment: its runs, figures and pages.

Nothing that another room needs.
Imports show and what lies below it.
"""
