"""Exchanges: what a round does with every entry of a profile, as pure functions from plain data to a plan.

``fedbn`` says what FedBN wants, ``secretflow`` what SecretFlow does; ``plan`` holds the words both speak and compares
them.
"""
