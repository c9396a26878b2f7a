"""
The rules, pure: no I/O, no clock, no threads, no environment.

Whoever needs a rule calls it here; nobody states it a second time.
"""
