"""Diagnosis: whether a valid configuration will work well, from what is known about it.

`evidence` has what is known: of the queries, the files, the collected history, the bundle and the
server. `checks` is the table of all checks: each is a small function from one kind of evidence to
findings, in the module of its area.

    findings    what a check yields
    evidence    what checks look at, as plain values
    checks      the table, and how all of it is run
    queries     PromQL, and how often its metrics are scraped
    history     features that are constant, alike or missing, and gaps; `statistics` computes them
    bundles     age, integrity and fit of the current bundle, drift, alert budget
    server      answers, clock, labels, cost and size
    host        permissions and disk space
    online      what `check-config --online` and `doctor --online` both ask the server
"""
