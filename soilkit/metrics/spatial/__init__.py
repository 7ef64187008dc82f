"""Skill in space: across the stations of a date, and over the cells of a map."""
