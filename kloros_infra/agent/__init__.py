"""The agent: looks at the cards, decides which profile is active, and says so to the router."""
