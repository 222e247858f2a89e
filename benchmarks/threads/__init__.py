"""Trainings that do not learn, rebuilt from public threads, and healthy ones: does
`trainability.check` name the cause?
"""
