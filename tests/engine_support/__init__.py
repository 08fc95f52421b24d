"""What the tests of the stand-in engine share."""
