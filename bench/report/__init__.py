"""`python -m bench.report`: result files in, verdicts, tables, figures and one HTML page out.

rows      which rows of a result belong in one figure
style     colours, names and the look of every figure
figures   one function a figure
sections  what the report shows, by chapter: questions, then a few sentences, a figure and a table each
filters   what the page's reader may hide of a figure
page      the HTML page and the markdown summary
output    the files, written whole or not at all
"""
