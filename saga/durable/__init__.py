"""Executions that a store remembers: their journals, their leases, how they are started and rebuilt."""
