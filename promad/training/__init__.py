"""Training: from the collected file to a bundle.

    MetricFrame ─► exclusion: without the samples that training must not see
                ─► processing: short gaps filled, long ones cut out, scaled ─► Processed
    Processed   ─► the file of `preprocess` (processed_file writes its metadata and checks it)
                ─► material: windows, split into training and validation ─► Material
    Material    ─► fitting: model ─► scoring ─► threshold (threshold_choice) ─► gate ─► Fitted
    Fitted      ─► bundling: files, plots and manifest ─► Bundle
    Bundle      ─► due: whether it is time to train again
                ─► filtering: windows scored, trimming chooses what to drop ─► windows to train on

Every function takes arrays and a few named values; the stages read the configuration and the files.
`promad evaluate` goes the same way in memory.
"""
