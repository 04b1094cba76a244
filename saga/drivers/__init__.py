"""Drivers make the machine's commands happen: the only places that run user code, sleep or time out."""
