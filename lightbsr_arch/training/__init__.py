"""The ``basicsr`` command: training and testing in BasicSR's steps and with its parts."""
