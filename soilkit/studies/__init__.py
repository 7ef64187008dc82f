"""What notebooks take of studies that were run: the paper's tables, contests of tabular systems."""
