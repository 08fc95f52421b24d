"""What the models of a fleet need and whether its hosts have it."""
