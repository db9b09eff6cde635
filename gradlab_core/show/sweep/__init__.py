"""The page of a sweep, with a row for each run."""
