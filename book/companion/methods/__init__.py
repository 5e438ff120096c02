"""Pages on methods of all papers side by side."""
