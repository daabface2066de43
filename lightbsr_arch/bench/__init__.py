"""``lightbsr bench``: models x data sets x degradations, in one table.

``config`` reads the options, ``pairs`` makes the LR images, ``models`` runs everything that upscales, ``metrics`` and
``cost`` measure, ``runner`` runs all of it with a ``cache``, and ``tables`` and ``report`` write the results.
"""
