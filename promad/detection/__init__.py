"""What the daemon does: poll, judge, publish, remember.

    daemon ─► loop (a tick) ─► step ─► Judgements ─► status, history, persistence
                                 ▲
                               state

Read `step` first: the one place where samples become judgements, for the daemon, `replay` (and so
backtest, report and explain) and evaluate alike. `state` is what it remembers of each group, in
arrays; `live` is a detector with its state. `daemon` starts, reloads and stops the loops, each in a
thread of its own. `persistence` and `threshold_file` save what a restart continues with. The loop
of many groups is `fleet_loop`, and the modules whose names begin with `fleet_` are its parts.
"""
