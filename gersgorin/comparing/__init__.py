"""Networks side by side: the words that name them, medians and bands, figures."""
