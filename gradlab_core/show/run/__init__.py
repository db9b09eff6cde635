"""The page of recorded runs, which shows step by step what a monitor wrote."""
