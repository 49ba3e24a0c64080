"""Evaluation: how well scores, alarms and explanations agree with labels.

`labelled` reads a data set, `naive` scores it in ways that any detector must beat. Scores
themselves are ranked by `ranking`; held to a limit they become episodes, which `episodes`,
`affiliation`, `ranges` and `sequences` compare with the labelled segments; `explanations` asks
whether the right features were named; `nab` scores windows as that benchmark does; `adjusted` is
for comparison with papers only. `figures` puts them all into one row. `capacity` is about cost: how
many groups a machine can watch.

Everywhere labels are bool (samples,), a segment is a maximal run of labelled samples, scores are
float64 (samples,), higher is worse, and NaN means unknown: such a sample never alarms. A figure
that is not defined (recall without labels) is NaN.
"""
