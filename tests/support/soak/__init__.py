"""A world in which everything goes wrong, and an oracle that knows what the daemon may say.

    plan ─► World ─► FaultServer ─► (HTTP) ─► the real daemon on a DrivenClock
              │          │ what was really delivered                │
              └──────► Oracle ◄──────── state, events, port ◄───────┘

`run_soak` drives it; the same seed yields the same faults at the same ticks.
"""
