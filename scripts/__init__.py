"""Scripts that write generated files; run from the root of the repository."""
