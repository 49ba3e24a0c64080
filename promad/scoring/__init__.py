"""From windows to one score per sample and what each feature adds to it.

    model ─► errors ─► normalise ─► moving average ─► aggregate ─► score
                          ▲                              └─► by feature ─► attribution
                     calibration

`detector` puts preparation, model, scoring and threshold together, as a bundle has them. `scoring`
is what was fitted on all of training, `calibration` what each group has of its own. `streaming`
scores samples as they come, for many groups at once. `segments` describes runs of recorded scores
above their limits, without hysteresis.
"""
