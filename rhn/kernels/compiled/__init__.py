"""Small recurrences in compiled code on a CPU: the whole loop over time in one call, rows side by side; see `lanes.h` and `build`."""
