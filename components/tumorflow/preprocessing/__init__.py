"""Step 3: turns slices into windowed tensors, splits them by group and writes shards."""
