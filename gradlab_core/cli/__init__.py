"""The `gradlab` command: one file a verb.

No arithmetic and no rules: a verb reads what was asked, calls a room, and says what came of it.
Imports any room.
"""
