"""The main path, one module per command: collect, preprocess, train, filter, detect.

A stage reads what the one before it left, does its work, and returns what it has to say; printing
and exiting belong to `promad.cli`.
"""
