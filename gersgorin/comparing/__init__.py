"""Networks side by side: what `--compare` varies, their runs at one scale, and medians and bands over many sequences and seeds."""
