"""The shipped experiments: one YAML file each, every one runs."""
