"""The page of a parity report."""
