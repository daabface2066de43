"""``lightbsr bench``: models x data sets x degradations, in one table.

``config`` says what is compared, ``pairs`` makes the LR images, ``models`` runs everything that upscales, ``metrics``
and ``cost`` measure, ``runner`` goes through all of it with a ``cache``, ``tables`` and ``report`` write it down.
"""
