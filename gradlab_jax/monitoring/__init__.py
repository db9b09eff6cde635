"""What is measured of every step of a run: the monitor, and what a record is made from.

No loop and no judgement: the loop is the user's, the judgement is in the core.
Imports measure and what lies below it.
"""
