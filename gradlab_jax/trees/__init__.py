"""Trees of arrays: paths, norms, and how numbers come to the host from whatever device.

Nothing about training.
Imports model.
"""
