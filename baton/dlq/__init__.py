"""Dead letters that people can work with: kept as objects, looked at, mended, sent back to where they came from."""
