"""Networks: teams of agents with a memory, and who may see them."""
