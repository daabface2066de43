"""``lightbsr bench``, which measures models on data sets and degradations.

``config`` reads the options, ``pairs`` makes the LR images, ``models`` loads and runs models, ``metrics`` and ``cost``
measure, ``runner`` runs the bench with a ``cache``, and ``tables`` and ``report`` write the results.
"""
