"""gradlab's language: specs, records, definitions, rules; no framework."""

from gradlab_core.diagnose import diagnose

__all__ = ["diagnose"]
