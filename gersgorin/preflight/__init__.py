"""Will it train? `gersgorin.check`: what a network does before its first step of training, and how often networks like it learned.

gains.py measures within a step and along sequences; domain.py says what the calibration knows nothing of; changes.py what could be
changed; checking.py puts it together; record.py is what comes out, words.py how it is told.
"""
