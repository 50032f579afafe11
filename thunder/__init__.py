"""Thunder Train: train, test and serve language technology on two Macs and a cable."""

__version__ = "0.1.0"
