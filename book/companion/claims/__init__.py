"""What is claimed and what decides it: printed tables, statements, rules, reference results."""
