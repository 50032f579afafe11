"""stub"""


def refused(*a):
    return {}
