"""Trainings that do not learn, rebuilt from public threads, and healthy ones: does
`gersgorin.check` name the cause?
"""
