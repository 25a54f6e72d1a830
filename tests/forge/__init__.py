"""Builders of files with a chosen defect: every field can be set to what no writer would write."""
