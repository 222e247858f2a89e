"""All cells side by side at equal parameters: how well 60 random settings of each train, and their spectra before and after."""
