"""Reports: one HTML page about a network, a training run or a study, made from results and their
figures.
"""
