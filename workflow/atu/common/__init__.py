"""Code that all parts share: files, errors, recipes, names, the job's log and seeds."""
