"""One module per sub-command; each is load, call, show."""
