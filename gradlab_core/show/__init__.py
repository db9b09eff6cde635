"""What people see of a run: charts, tables, the page of recorded runs, and what all pages share.

Nothing is judged here. The lab and the comparison bring pages of their own.
Imports judge and what lies below it.
"""
