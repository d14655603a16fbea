"""Step 2: checks the manifest and pixel statistics; errors stop the run, warnings travel with it."""
