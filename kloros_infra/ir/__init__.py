"""Values that pass between the rooms: no behaviour beyond questions about themselves."""
