"""The judgement: from records to findings, trends, norm reports and bands, with the words for them.

Nothing is measured here and nothing is drawn.
Imports programs, definitions and records.
"""
