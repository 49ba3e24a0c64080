"""What Prometheus has of many groups: series sorted into the groups that their labels name.

`polling` keeps the newest samples of all groups: `columns` asks for one query, `rows` finds the row
of each series, `ages` takes out what is too old, `membership` decides who is watched, `buffer` has
the samples. `history` and `cache` fetch whole periods, `checking` looks at each query once.
"""
