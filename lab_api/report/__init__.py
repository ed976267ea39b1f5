"""The evidence report of an evaluation: as a page, and as a PDF document.

Both follow from the evaluation's document alone, in English or French.
"""
