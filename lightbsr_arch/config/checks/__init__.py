"""The checks of an options file, one module per subject; `config.load` runs them."""
