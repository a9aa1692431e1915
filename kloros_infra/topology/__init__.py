"""Which profile the cards allow: (state, facts, now) → (state, decision). Pure."""
