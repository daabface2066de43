"""What was learnt: curves of training runs, and what a degradation representation (IDR) tells apart."""
