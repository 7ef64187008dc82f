"""Pictures, widgets and reports."""
