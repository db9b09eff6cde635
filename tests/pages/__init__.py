"""The pages, in a real browser where one is there."""
