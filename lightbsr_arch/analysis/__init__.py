"""What a degradation representation (IDR) tells apart: reading it, figures, a plot.

Needs scikit-learn and Matplotlib (extra ``idr``), which nothing else of the package imports.
"""
