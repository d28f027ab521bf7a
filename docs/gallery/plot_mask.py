"""
A masking protocol
==================

A digit appears for 10 ms, and a pattern mask follows after a blank interval. The mask replaces the digit's drive, but
not the activity that keeps circulating in the network. What the network can still report depends on the interval, as
in backward masking: a mask that comes early erases the answer, and one that comes late finds it complete.
"""
