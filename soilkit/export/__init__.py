"""From readings and scenes to samples, chips and tables: ``from soilkit.export import join, chips``."""
