"""Pages on Scale-VAE."""
