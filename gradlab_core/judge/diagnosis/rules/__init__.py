"""The rules: each a pure function of a history, one file a family."""
