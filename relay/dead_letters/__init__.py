"""Dead letters for an operator: look at them, replay, discard or export them."""
