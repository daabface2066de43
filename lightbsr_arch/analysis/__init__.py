"""Analysis of training: curves of runs, and the degradations that a representation (IDR) distinguishes."""
