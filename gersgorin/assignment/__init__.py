"""Credit assignment over time: which frames' losses reach which states, and what truncating the errors loses."""
