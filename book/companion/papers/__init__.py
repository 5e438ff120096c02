"""Pages on the papers: their status, and what an audit of their numbers says."""
