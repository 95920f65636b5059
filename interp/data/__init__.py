"""Read what ships with the package, and keep what was trained in files that say which model they belong to."""
