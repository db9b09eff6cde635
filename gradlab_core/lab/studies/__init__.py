"""The experiments of `gradlab lab`, each a record of what was measured beside what theory says; no text, no charts."""
