"""Pages on isotropic Gaussian posteriors."""
