"""Whether a machine can do what is asked of it: facts → checks, each with why it matters and what mends it. Pure."""
