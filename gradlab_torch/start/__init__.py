"""Before the first step: initialisers, what they do to a signal, a doctor for weights, the examination.

Nothing that needs a run but the few steps of an examination.
Imports monitoring and what lies below it.
"""
