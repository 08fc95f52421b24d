"""Signed package repositories with the names, versions and dependencies of real ones. Fixtures: see README.md."""
