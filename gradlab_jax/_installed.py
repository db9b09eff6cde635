"""Imported before all else of this package: without its framework, or with one that is too old, the message is the pip
command that brings it."""

from gradlab_core.backends import check

check("jax")
