"""Imported before all else of this package: without its framework, the message is the pip command that brings it."""

from gradlab_core.backends import check

check("jax")
