"""Jobs: each calls one thing of `mesh`."""
