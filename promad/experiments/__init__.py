"""Experiments: what `promad evaluate` does with labelled data.

    stages.evaluate ─► tasks.list_tasks ─► Task: one model's row, one entity, one seed
    Task ─► judging.run_task ─► Row: figures, and a chart of scores and limits
            read the entity ─► process ─► fit a detector (promad.training) ─► judge the test part
    Tasks ─► running.run_tasks ─► Rows: here, in processes, or on the workers of a cluster
    Row ─► cache.EvaluationCache: a file for each finished task, read when an evaluation resumes
    Rows of all tasks ─► outcome.Evaluation: means over seeds and entities, as JSON
    Evaluation ─► report: one HTML page

`rows` holds what a task yields; the figures themselves are computed by `promad.evaluation`. No file
of `promad.stages` is used: training happens in memory, by the functions that `train` uses.
"""
