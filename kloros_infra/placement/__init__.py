"""Pure decisions on which device holds which layer, and what that costs in memory."""
