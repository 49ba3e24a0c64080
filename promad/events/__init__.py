"""Verdicts and events: what a score means, when an anomaly begins and ends, and why.

    score, limit ─► hysteresis ─► event_book ─► AnomalyEvent ─► incident_book ─► Incident
                                                     └─► explanation, event_log ◄─┘

`verdict` is one group's judgement at one time, `status` its state after a tick. `hysteresis` is the
one rule for when an event begins and ends; `event_levels` counts by it at every threshold at once.
`event_book` has the events of many groups in arrays, `incident_book` joins those that begin
together into incidents, each of which is an entry of `incident_entry`, `event_log` keeps both in
SQLite.
"""
