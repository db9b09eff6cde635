"""The `gradlab` command, with a file for each verb.

There is no arithmetic and no rule here: a verb reads the options, calls another room, and shows the result.
Imports any room.
"""
