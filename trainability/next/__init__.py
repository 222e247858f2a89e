"""The new package, beside the old one until the switch."""
