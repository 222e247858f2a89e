"""Say before a training whether it leaves its plateau, and look for a start that does: trials,
forecast, verdict, cure.
"""
