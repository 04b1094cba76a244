"""What the property test of doubt is made of: random cases, the world outside, how a case is run, and a reference.

``cases``: a flow, its policies and all that goes wrong in it, as data. ``world``: what is outside, and functions that act on
it. ``flows``: the sagas of a case. ``runs``: a case is executed, its process dies, a person acts, others recover it; what must
hold is checked wherever it stops. ``ledger``: what the rules of doubt make of a history; it shares nothing with the machine.
``shrink``: the smallest case that still breaks a law.
"""
