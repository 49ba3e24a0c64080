"""Independent tasks at the same time: on this machine, or on the workers of Dask, Ray or Spark.

    Backend ─► open_engine ─► Engine ─► run_each ─► (key, result or Failure), as they finish

`backend` has the choice and the table of engines, `engine` what all of them have in common,
`running` the one loop. The work itself goes through `joblib.parallel_config(backend=…)`.
"""
