"""User input, validated once on entry, and the rows that the kernels read: arrays, labels, scaling, rows in files."""
