"""The ``basicsr`` command, which trains and tests in the steps of BasicSR and with its classes."""
