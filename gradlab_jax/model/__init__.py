"""What a model is: its parameters, layers and inputs under canonical names; losses; weights in and out.

Nothing is measured here.
Imports the core, and no other room.
"""
