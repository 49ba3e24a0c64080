"""One file per command: its options, the call of its stage, and the lines it prints."""
