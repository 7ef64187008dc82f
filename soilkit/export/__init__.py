"""From readings and scenes to samples, chips and tables."""
