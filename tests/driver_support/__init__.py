"""Lab hosts that look like servers with an NVIDIA GPU to everything that looks at them. Fixtures: see machine.py."""
