"""Step 1: reads a source, de-identifies it and writes slices, a manifest and a quarantine list."""
