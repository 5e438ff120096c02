"""Pages on diversity and uncertainty."""
