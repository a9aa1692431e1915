"""Who decides a placement: one file for each engine, all with the same call."""
