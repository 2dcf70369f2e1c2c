"""Exchanges: what a round does with every entry of a profile, as pure functions from plain data to a plan.

``fedbn`` says what FedBN wants, ``secretflow``, ``flower`` and ``nvflare`` what those frameworks do, ``handwritten``
what averaging written by hand does; ``plan`` holds the words all speak and compares them. ``steps``, ``arithmetic`` and
what stands beside them are what the plans are made of.
"""
