"""Pages on AutoGen."""
