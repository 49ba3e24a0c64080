"""Samples that a server sends by remote write, in place of polling.

    body ─► wire, write_request(_v2) ─► Decoded ─► directory ─► store ─► columns ─► polling

`naming` has the names of the series that are sent. `write_request` and `write_request_v2` read the
two versions of the protocol, `directory` finds the series of a label set by its bytes, `store`
places samples on the grid, and `columns` and `polling` give them the form of a poll. What was not
received, because promad did not run, is queried once.
"""
