"""Pages on lagging inference networks."""
