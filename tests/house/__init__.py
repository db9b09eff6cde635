"""The house rules: layout, public names, packages, documents, processors."""
