"""Makes the table of NVIDIA's PCI ids from the PCI ID database."""
