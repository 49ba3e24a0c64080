"""promad finds anomalies in Prometheus metrics and says which of them are to blame.

Read `promad.stages` first: one module per command, in the order in which they are run.
"""

__version__ = "0.1.0"
