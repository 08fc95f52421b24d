"""Twelve servers as host_info sees them, laid out as trees and recorded in tests/data/fleet."""
