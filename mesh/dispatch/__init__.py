"""How work is woken up: which queue serves an agent type, and permits, the only messages there are."""
