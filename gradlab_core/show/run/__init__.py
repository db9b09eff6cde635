"""The page of recorded runs: what a monitor wrote, step by step."""
