"""The `gradlab` command, with a file for each verb.

No arithmetic is done and no rule is applied here: a verb reads the options, calls another room, and shows the result.
Imports any room.
"""
