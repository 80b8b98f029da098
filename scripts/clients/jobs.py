"""What the worker is given to do."""


def add(a, b):
    return a + b


def fail():
    raise ValueError("on purpose")
