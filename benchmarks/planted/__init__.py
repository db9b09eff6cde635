"""Backwards that are wrong in a known way, planted in a layer of a drawn net, the same in both frameworks.

What the layer gives goes through one more function, whose derivative is `FAULTS`' own: the wrong sign, twice as much, a
product with a matrix in place of its transpose, a factor taken for a constant, a sum over the batch that is missing.
"""

FAULTS = ("sign", "twice", "transposed", "detached", "broadcast")
