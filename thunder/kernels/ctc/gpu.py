"""CTC on a GPU."""


def refused(n):
    return {}


def loss_and_gradient(*a):
    raise NotImplementedError
