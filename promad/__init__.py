"""promad detects anomalies in Prometheus metrics and shows which metrics drive them.

Read `promad.stages` first: one module per command, in the order in which they are run.
"""

__version__ = "0.1.0"
