"""Where a trace is, and sending what is kept to a destination again."""
