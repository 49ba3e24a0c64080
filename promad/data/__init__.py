"""Measured values, from a regular grid to the windows that a model sees.

    MetricFrame ─► filling (gaps) ─► scaling ─► preparation ─► windows ─► models
                                                     ▲
                                                  calendar

`frame` has values of every feature of every group on a time grid, `groups` the labels that tell
groups apart. `preparation` is what training and serving share: `fill` sees a gap whole, as training
does, `fill_as_it_comes` sample by sample, as serving does. `moving_average` is the one average of
the package. `artifacts` are the parquet and .npy files that stages leave for each other.
"""
